"""Functions that the benchmarks of the executor submit, in a module that imports next to nothing."""

from time import perf_counter


def no_op(*args):  # type: ignore[no-untyped-def]
    """Do nothing."""


def wait_for(gate):  # type: ignore[no-untyped-def]
    """Read from a named pipe until somebody opens and closes its other end."""
    with open(gate, "rb") as pipe:
        pipe.read()


def spin(seconds):  # type: ignore[no-untyped-def]
    """Look at the clock until a time is over."""
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


def add(first, second):  # type: ignore[no-untyped-def]
    """Add two numbers."""
    return first + second


def touch(data):  # type: ignore[no-untyped-def]
    """Look at every page of some bytes."""
    return sum(bytes(data[::4096]))


def make(size):  # type: ignore[no-untyped-def]
    """Return new bytes."""
    return bytes(size)


def make_array(size):  # type: ignore[no-untyped-def]
    """Return a new array."""
    import numpy

    return numpy.zeros(size, dtype=numpy.uint8)
