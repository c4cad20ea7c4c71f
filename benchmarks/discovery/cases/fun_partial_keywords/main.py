from functools import partial

import pandas as pd
from more_itertools import flatten


def combine(values, how, start=0):
    return sum(how(values), start)


reduce_all = partial(combine, how=flatten)


def unrelated():
    return pd.NA
