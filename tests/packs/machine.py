"""A machine that has an interpreter and a folder, and nothing else of what the client has.

It is this machine in namespaces of its own (Linux, as root or where users may make them): no network interface is up,
and empty folders lie over the user's home, the project, the environments and the store. What opens a pack there is an
envpack that came in a pack, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BARE, WITNESS = HERE / "bare.py", HERE / "witness.py"
PROGRAMS = HERE / "programs"
_DEADLINE_S = 900
_NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private")


class Machine:
    """Commands on a bare machine.

    Args:
        folder: what the machine has: the packs, the programs, and the environments that it makes of them.
        client: the interpreter of the client; the machine has the one that this stands on.
        hidden: folders that the machine does not have, besides home and project.
    """

    def __init__(self, folder: Path, client: str, hidden: list[Path]) -> None:
        self.folder = folder
        self._unshare = unshare()
        question = "import os, sys; print(os.path.realpath(sys._base_executable)); print(sys.prefix)"
        answer = subprocess.run([client, "-c", question], capture_output=True, text=True, check=True)
        self._base, prefix = answer.stdout.split("\n")[:2]
        self._client = client
        self._hidden = sorted({str(path) for path in (Path.home(), ROOT, Path(prefix), *hidden)})
        self._environ = {**os.environ, "ENVPACK_STORE": str(hidden[0])}

    def pack(self, program: Path | str, name: str, *options: str) -> str:
        """Pack a program as the client does, and bring it to the machine; return the name of the file."""
        file = f"{name}.tar.zst"
        command = [self._client, "-m", "envpack", "pack", str(program), *options, "-o", str(self.folder / file)]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=_DEADLINE_S)
        assert done.returncode == 0, done.stderr
        return file

    def bring_envpack(self) -> None:
        """Bring an envpack of the machine's own, in `tool/bin/envpack`: packed by the client's."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "open_packs.py"
            script.write_text("import envpack\n")
            file = self.pack(script, "tool", "--include", "envpack-hpc")
        command = [self._client, "-m", "envpack", "unpack", str(self.folder / file), str(self.folder / "tool")]
        subprocess.run(command, env=self._environ, check=True, capture_output=True, timeout=_DEADLINE_S)

    def run(self, *commands: list[str]) -> list[dict[str, Any]]:
        """Run commands one after the other; each gives status, stdout and stderr."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            request, report = Path(place) / "request", Path(place) / "report"
            question = {
                "hidden": self._hidden,
                "folder": str(self.folder),
                "commands": commands,
                "report": str(report),
            }
            request.write_text(json.dumps(question))
            bare = shutil.copy(BARE, place)
            command = [*self._unshare, self._base, "-I", bare, str(request)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, cwd="/")
            assert done.returncode == 0, done.stderr
            found = json.loads(report.read_text())
        assert (found["left"], found["can_reach_network"], found["has_pip"]) == ([], False, False)
        runs: list[dict[str, Any]] = found["runs"]
        return runs

    def output_of(self, pack: str, program: Path) -> str:
        """Unpack a pack on the machine, run a program there, and return what it prints."""
        shutil.copy(program, self.folder)
        shutil.copy(WITNESS, self.folder)
        environment = self.folder / pack.removesuffix(".tar.zst")
        unpacked, ran = self.run(
            [str(self.folder / "tool" / "bin" / "envpack"), "unpack", pack, str(environment)],
            [str(environment / "bin" / "python"), "-P", WITNESS.name, program.name],
        )
        shutil.rmtree(environment, ignore_errors=True)
        assert unpacked["status"] == 0, unpacked["stderr"]
        assert ran["status"] == 0, ran["stderr"]
        return str(ran["stdout"])


def unshare() -> list[str]:
    """Return the command that gives a program namespaces of its own, or skip where the kernel does not allow them."""
    for options in ([], ["--map-root-user"]):
        command = ["unshare", *options, *_NAMESPACES]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("needs mount, network and process namespaces: unshare is missing or not allowed")
