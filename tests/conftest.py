"""Fixtures of all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing import load_profile

load_profile()


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
