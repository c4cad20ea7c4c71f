"""What the tests of the plugs share: the laws of the executor's tests, and engines that they start for themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.executor.conftest import nothing_left_behind, own_folders, start_worker
from tests.plugs.slurm import Slurm, why_not

__all__ = ["nothing_left_behind", "own_folders", "running_slurm", "slurm", "start_worker"]


@pytest.fixture(scope="package")
def running_slurm() -> Iterator[Slurm]:
    """A Slurm of two nodes for all tests that ask for it; Slurm's commands find it, and no other one."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Slurm() as slurm, pytest.MonkeyPatch.context() as patch:
        for name, value in slurm.environ.items():
            patch.setenv(name, value)
        yield slurm


@pytest.fixture
def slurm(running_slurm: Slurm) -> Iterator[Slurm]:
    """The Slurm of two nodes, idle; all jobs of a test have ended when it ends, or are cancelled and it fails."""
    yield running_slurm
    with contextlib.ExitStack() as stack:
        stack.callback(running_slurm.cancel_all)
        running_slurm.wait_until_idle()
