import numpy as np
import pandas as pd
from sortedcontainers import SortedDict


def kind(value):
    match value:
        case SortedDict():
            return "sorted"
        case [_]:
            return "one"
    return "other"


def unrelated():
    return np.zeros(1), pd.NA
