import numba
import numpy as np


@numba.njit
def solve(matrix, right):
    return np.linalg.solve(matrix, right)


print(solve(np.eye(2) * 2.0, np.ones(2)))
