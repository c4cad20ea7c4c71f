"""One script, three profiles: this machine, a real Slurm of two nodes, a Dask cluster with nannies.

Its results are the same, its context is set up once in each process, and its pack is unpacked once on each node. What
is unpacked is counted by the kernel: the list of a layer is renamed into the store each time that this was done.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executor.helpers import ROOT, environ
from tests.plugs.slurm import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(250)]

EXAMPLE = ROOT / "examples" / "machines"
CALLS = 2000
RESULTS = "14dabbc6bd22ec0ea99a567fddefb85243642b78c8720b555ed891bf3a09f72d"
MOVED_HERE = 0x80
EVENT = struct.Struct("iIII")


class Watch:
    """Counts what is unpacked in stores, from now on.

    Args:
        stores: their folders.
    """

    def __init__(self, stores: list[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stores: dict[int, Path] = {}
        for store in stores:
            layers = store / "layers"
            layers.mkdir(parents=True)
            watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(layers), MOVED_HERE)
            assert watch > 0, os.strerror(ctypes.get_errno())
            self._stores[watch] = store

    def unpacked(self) -> dict[str, Counter[str]]:
        """Return, for each store where anything was, how often each layer was unpacked."""
        found: dict[str, Counter[str]] = {}
        while data := self._read():
            while data:
                watch, _, _, length = EVENT.unpack_from(data)
                name = data[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
                data = data[EVENT.size + length :]
                if name.endswith(".json"):
                    found.setdefault(self._stores[watch].name, Counter())[name] += 1
        return found

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """The stores of this machine and of the two nodes."""
    watch = Watch([tmp_path / name for name in ("store", "store-n1", "store-n2")])
    yield watch
    watch.close()


def run(folder: Path, profile: str) -> tuple[int, int, int]:
    """Run the script and return how many set-ups, processes and nodes it tells; its results must be right."""
    (folder / "profile.toml").write_text(profile)
    told = {"ENVPACK_PROFILE": str(folder / "profile.toml"), "ENVPACK_RUNS": str(folder / "runs")}
    done = subprocess.run(
        [sys.executable, EXAMPLE / "months.py", "--calls", str(CALLS)],
        env={**environ(), **told},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert f"{CALLS} calls, 42342 working days\nsha256 of the results: {RESULTS}\n" in done.stdout
    numbers = re.search(r"^(\d+) set-ups in (\d+) processes\nnodes: (\d+)", done.stdout, re.M)
    assert numbers, done.stdout
    return int(numbers[1]), int(numbers[2]), int(numbers[3])


def example(name: str, **values: str) -> str:
    """Return one of the example's profiles, with other values of some keys."""
    text = (EXAMPLE / name).read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key} = [^#\n]*", f"{key} = {value} ", text)
        assert count == 1, f"{key} in {name}"
    return text


def assert_each_layer_was_unpacked_once(unpacked: dict[str, Counter[str]], stores: set[str]) -> None:
    assert unpacked
    assert unpacked.keys() == stores
    for store, layers in unpacked.items():
        assert layers, store
        assert set(layers.values()) == {1}, f"{store}: {layers}"


def test_the_script_runs_on_this_machine(tmp_path: Path, watch: Watch) -> None:
    set_ups, processes, nodes = run(tmp_path, example("local.toml"))
    assert set_ups == processes <= 2
    assert nodes == 1
    assert_each_layer_was_unpacked_once(watch.unpacked(), {"store"})


def test_the_script_runs_on_a_slurm_of_two_nodes(slurm: Slurm, tmp_path: Path, watch: Watch) -> None:
    profile = example("slurm.toml", store=f"'{tmp_path}/store-{{SLURMD_NODENAME}}'")
    set_ups, processes, nodes = run(tmp_path, profile)
    unpacked = watch.unpacked()
    # Each node runs one process; the second may find nothing left to do, on a machine that is busy enough.
    assert set_ups == processes == len(unpacked) <= nodes == 2
    assert_each_layer_was_unpacked_once(unpacked, unpacked.keys() & {"store-n1", "store-n2"})


def test_the_script_runs_on_a_dask_cluster_with_nannies(tmp_path: Path, watch: Watch) -> None:
    profile = example("dask.toml", kind=f"'dask'\nstore = '{tmp_path}/store-n1'")
    set_ups, processes, nodes = run(tmp_path, profile)
    assert set_ups == processes <= nodes == 2
    assert_each_layer_was_unpacked_once(watch.unpacked(), {"store-n1"})  # one host, so one store for both
