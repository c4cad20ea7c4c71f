"""Functions that the benchmarks of the executor submit, in a module that imports nothing: every worker can have it."""


def no_op(*args):  # type: ignore[no-untyped-def]
    """Do nothing."""


def wait_for(gate):  # type: ignore[no-untyped-def]
    """Read from a named pipe until somebody opens and closes its other end."""
    with open(gate, "rb") as pipe:
        pipe.read()
