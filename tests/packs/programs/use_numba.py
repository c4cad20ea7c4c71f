"""Functions that are compiled when they are called: a loop, linear algebra, and a parallel sum."""

import numpy as np
from numba import njit, prange


@njit
def collatz(number: int) -> int:
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


@njit
def solved(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.solve(matrix, values)


@njit(parallel=True)
def total(count: int) -> int:
    result = 0
    for number in prange(count):
        result += number
    return result


print("steps", [collatz(number) for number in (7, 27, 97)])
print("solved", np.round(solved(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([9.0, 8.0])), 8).tolist())
print("total", total(1000))
