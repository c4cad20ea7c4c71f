import numba
import numpy as np
import pandas as pd


@numba.njit
def total(n):
    return np.arange(n).sum()


def unrelated():
    return pd.NA
