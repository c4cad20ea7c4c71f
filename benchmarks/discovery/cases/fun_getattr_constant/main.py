import numpy as np
import pandas as pd

METHODS = {"total": "sum", "largest": "max"}


def compute(kind, values):
    return int(getattr(np, METHODS[kind])(values))


def unrelated():
    return pd.NA
