import pickle

import numpy as np
from sortedcontainers import SortedSet

STATE = pickle.dumps(SortedSet([3, 1, 2]))


def again():
    return list(pickle.loads(STATE))


def unrelated():
    return np.zeros(1)
