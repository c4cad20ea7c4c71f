"""Claim: a second environment of layers that are there costs little more than its links; one that is there, nothing.

A store holds an environment with NumPy and SciPy. Another one that shares these layers and has another local file is
made; the bare loop makes the same folders and hard links, from a list. Then the environment is asked for that is there.

    python benchmarks/packing/environments.py [--python ENVIRONMENT/bin/python] [--rounds 9] [--quick] [--json]
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path

from rounds import SCRIPT, Subject, make_environment, options, show, take_turns
from rounds import work as work_folder

from envpack.pack import Manifest, Store, pack


class Second:
    """Environments that share all layers but one small one."""

    def __init__(self, work: Path, python: str) -> None:
        self._work = work
        self._python = python
        self._store = Store(work / "store")
        self._made = 0
        self.manifest = self._pack()
        self.folder = self._store.materialise(self.manifest, python=python)

    def _pack(self) -> Manifest:
        self._made += 1
        (self._work / "helper.py").write_text(f"NUMBER = {self._made}\n")
        (self._work / "script.py").write_text(f"import helper\n{SCRIPT}")
        return pack(self._work / "script.py", python=self._python, store=self._store)

    def pack_another(self) -> None:
        self.manifest = self._pack()

    def make(self) -> float:
        before = time.process_time()
        self._store.materialise(self.manifest, python=self._python)
        return time.process_time() - before

    def ask(self, times: int = 100) -> float:
        """Ask a new client for what is there; a client that has asked before remembers."""
        before = time.process_time()
        for _ in range(times):
            Store(self._store.folder).materialise(self.manifest, python=self._python)
        return (time.process_time() - before) / times


def links_of(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the folders of an environment, and its files with the path below it."""
    folders, files = [], []
    for place, _, names in os.walk(folder):
        below = os.path.relpath(place, folder)
        folders.append(below)
        files += [(f"{place}/{name}", f"{below}/{name}") for name in names if not os.path.islink(f"{place}/{name}")]
    return folders, files


def main() -> None:
    chosen = options(__doc__ or "", 9)
    with work_folder() as work:
        second = Second(work, chosen.python or make_environment(work / "environment"))
        folders, files = links_of(second.folder)
        target = work / "store" / "links"

        def link() -> float:
            before = time.process_time()
            for folder in folders:
                os.makedirs(f"{target}/{folder}", exist_ok=True)
            for file, below in files:
                os.link(file, f"{target}/{below}")
            return time.process_time() - before

        subjects = [
            Subject("envpack, another environment", second.make, second.pack_another),
            Subject("bare loop of links", link, lambda: shutil.rmtree(target, ignore_errors=True)),
            Subject("envpack, an environment that is there", second.ask),
        ]
        take_turns(subjects, chosen.rounds)
        show(f"an environment of {len(files):,} files whose layers are there", subjects, chosen.json, ours=1)
        if not chosen.json:
            print(f"\nasked for what is there: {statistics.median(subjects[2].cpu_s) * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
