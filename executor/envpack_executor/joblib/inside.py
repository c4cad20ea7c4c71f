"""What runs in the context processes of `Parallel` calls. It travels by value: there may be no envpack there.

Each function that travels is made inside another one. So nothing finds it by its name, and all of it is sent; and so
it may use only what it imports itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Variables = tuple[tuple[str, str], ...]


def _make_prepare() -> Callable[..., dict[str, Any]]:
    def prepare(variables: Variables, authkey: bytes | None, initializer: bytes | None) -> dict[str, Any]:
        import os
        import pickle

        os.environ.update(variables)
        if authkey is not None:
            from multiprocessing.process import current_process

            current_process().authkey = authkey
        if initializer is not None:
            function, args = pickle.loads(initializer)  # not before the key is known, which it may need
            function(*args)
        return {}

    return prepare


def make_run_batch(*needs: Any) -> Callable[..., list[Any]]:
    """Return a function that runs a pickled batch.

    Its `arrays` are the kept values that the batch names: as arguments, so that they are brought to its node.

    Args:
        *needs: functions and classes that it takes along, so that its environment is made with what they need.
    """

    def run_batch(
        pickled: bytes, buffers: list[Any], arrays: tuple[Any, ...], needs: tuple[Any, ...] = needs
    ) -> list[Any]:
        import copyreg
        import pickle
        import sys

        batch = pickle.loads(pickled, buffers=buffers)
        results: list[Any] = batch()
        numpy = sys.modules.get("numpy")
        if numpy is not None and numpy.memmap not in copyreg.dispatch_table:
            # What is a part of an array that was mapped here goes back as an array: its file is nothing to the client.
            copyreg.pickle(numpy.memmap, lambda mapped: mapped.view(numpy.ndarray).__reduce__())
        return results

    return run_batch


prepare = _make_prepare()
"""Set up a process: environment variables before anything that reads them is imported, then the user's initializer."""

run_batch = make_run_batch()
"""Run a batch where everything is there."""
