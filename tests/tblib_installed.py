"""tblib as Dask installs it: every exception of the process is pickled its way, until the end of the `with`."""

from __future__ import annotations

import contextlib
import copyreg
from collections.abc import Iterator


@contextlib.contextmanager
def exceptions_by_tblib() -> Iterator[None]:
    """Let tblib pickle all exceptions, as in a program that has imported Dask."""
    from tblib import pickling_support

    before = dict(copyreg.dispatch_table)
    pickling_support.install()
    try:
        assert SystemExit in copyreg.dispatch_table
        yield
    finally:
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(before)
