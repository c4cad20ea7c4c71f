import functools

import numpy as np
import pandas as pd
from tabulate import tabulate


def shown(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return tabulate([[function.__name__, function(*arguments)]], tablefmt="plain")

    return wrapper


@shown
def measure(x):
    return float(np.sqrt(x))


def unrelated():
    return pd.DataFrame()
