import pandas as pd
from numpy import pi
from toolz import identity


def turn(n):
    return round(identity(n) * pi, 6)


def unrelated():
    return pd.NA
