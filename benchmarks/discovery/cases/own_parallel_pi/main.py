"""Monte Carlo estimate of pi, in processes, compiled where numba is there."""

import math
import sys
from concurrent.futures import ProcessPoolExecutor

from rich.console import Console
from rich.progress import track

try:
    from numba import njit
except ImportError:

    def njit(function):
        return function


console = Console(stderr=True, quiet=True)


@njit
def hits(seed, n):
    state, inside = seed, 0
    for _ in range(n):
        state = (1103515245 * state + 12345) % 2147483648
        x = state / 2147483648
        state = (1103515245 * state + 12345) % 2147483648
        y = state / 2147483648
        if x * x + y * y < 1.0:
            inside += 1
    return inside


def batch(seed):
    return hits(seed, 20_000)


def main(workers=2, batches=4):
    with ProcessPoolExecutor(workers) as pool:
        found = list(track(pool.map(batch, range(1, batches + 1)), total=batches, console=console))
    estimate = 4 * sum(found) / (batches * 20_000)
    print(abs(estimate - math.pi) < 0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
