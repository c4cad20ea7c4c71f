"""Fixtures of all tests."""

from __future__ import annotations

import copyreg
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing import load_profile

load_profile()


def pytest_collection_finish() -> None:
    """Let exceptions be pickled as Python does it: Dask, which tests of plugs import, changes that everywhere.

    It lets tblib pickle every exception, which loses what an exception does not keep in `args`, such as the status of a
    `SystemExit`. Tests of other parts are about programs that have not imported Dask.
    """
    for kind, reduce in list(copyreg.dispatch_table.items()):
        if reduce.__module__.startswith("tblib"):
            del copyreg.dispatch_table[kind]


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Hear interrupts: what a shell runs in the background ignores them, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def index_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what is known of environments in a folder of the tests, in this process and in those that it starts."""
    folder = tmp_path_factory.mktemp("index-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVPACK_INDEX_CACHE", str(folder))
        yield folder
