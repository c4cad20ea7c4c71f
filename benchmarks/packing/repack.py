"""Claim: after an edit of one local file only that file's layer is built again; others pack everything anew.

A script with a local module and NumPy and SciPy is packed into a store, the module is edited, and it is packed again,
without and with one file as output. venv-pack of an environment with both, and `tar | zstd` of it, stand for tools
that know no layers.

    python benchmarks/packing/repack.py [--rounds 7] [--quick] [--json]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rounds import PEERS, SCRIPT, Subject, make_environment, options, process, show, take_turns
from rounds import work as work_folder

PROGRAM = """
import sys
from envpack.pack import pack

events = []
pack(sys.argv[1], python=sys.argv[2], store=sys.argv[3], output=sys.argv[4] or None, progress=events.append)
print([event.ref.name for event in events if event.built])
"""


class Edited:
    """A project of two files, of which one is edited again and again."""

    def __init__(self, work: Path, python: str) -> None:
        self._work = work
        self._python = python
        self._edits = 0
        (work / "script.py").write_text(f"import helper\n{SCRIPT}")
        self.edit()

    def edit(self) -> None:
        self._edits += 1
        (self._work / "helper.py").write_text(f"EDITS = {self._edits}\n")

    def pack(self, output: str = "") -> float:
        cache = {"ENVPACK_INDEX_CACHE": str(self._work / "index")}
        words = [str(self._work / "script.py"), self._python, str(self._work / "store"), output]
        return process([sys.executable, "-c", PROGRAM, *words], **cache)

    def check(self) -> None:
        """Make sure that what is measured builds one layer.

        Raises:
            RuntimeError: it builds more, or none.
        """
        self.edit()
        words = [str(self._work / "script.py"), self._python, str(self._work / "store"), ""]
        ran = subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True)
        if json.loads(ran.stdout.replace("'", '"')) != ["local"]:
            raise RuntimeError(f"one layer expected to be built, {ran.stdout.strip()} met")


def main() -> None:
    chosen = options(__doc__ or "", 7)
    with work_folder() as work:
        alone = work / "alone"
        python = make_environment(alone)
        project = Edited(work, chosen.python or python)
        project.pack()
        project.check()
        pack, archive = work / "script.tar.zst", work / "environment.tar.zst"
        both = ["sh", "-c", 'tar -C "$1" -cf - . | zstd -q -3 -f -o "$2"', "sh", alone, archive]
        subjects = [
            Subject("envpack, into its store", project.pack, project.edit),
            Subject("envpack, and into one file", lambda: project.pack(str(pack)), project.edit),
            Subject("python -c pass", lambda: process([sys.executable, "-c", "pass"])),
            Subject("tar | zstd -3 of the environment", lambda: process(both), project.edit),
        ]
        if not chosen.quick:
            tools = Path(make_environment(work / "peers", ["-r", str(PEERS)])).parent
            packed = work / "environment.tar.gz"
            command = [tools / "venv-pack", "-q", "-f", "-p", alone, "-o", packed]
            subjects.append(Subject("venv-pack of the environment", lambda: process(command), project.edit))
        take_turns(subjects, chosen.rounds)
        show("pack again after an edit of one local file", subjects, chosen.json)


if __name__ == "__main__":
    main()
