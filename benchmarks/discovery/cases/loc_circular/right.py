import left
from toolz import curry


@curry
def stop(n):
    return n * left.FACTOR
