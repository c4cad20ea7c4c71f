"""A real virtual environment with small distributions in it, and stores that are checked when they leave."""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from envpack.discover import Dependencies, Distribution
from envpack.pack import Store

VERSION = ".".join(map(str, sys.version_info[:3]))


def other_pythons() -> list[str]:
    """Return the other Pythons of this machine that bytecode can be compiled for."""
    found = [shutil.which(name) for name in ("python3.11", "python3.12", "python3.13")]
    found = [path for path in found if path and "shims" not in path]
    # Where several versions are installed side by side, in folders named for them.
    found += [str(path) for path in Path(sys.base_prefix).parent.glob("3.1[123].*/bin/python")]
    return sorted({os.path.realpath(path) for path in found} - {os.path.realpath(sys.executable)})


class Prefix:
    """A virtual environment into which distributions are installed as an installer does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = str(folder / "bin" / "python")
        self.site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    def install(self, name: str, version: str, files: dict[str, str | bytes], *, compiled: bool = False) -> None:
        """Write the files (paths relative to site-packages) with metadata and RECORD."""
        info = f"{name}-{version}.dist-info"
        everything = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/INSTALLER": "pip\n",
        }
        rows = [self._write(path, content) for path, content in everything.items()]
        rows.append((f"{info}/RECORD", "", ""))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(f"{info}/RECORD", text.getvalue())
        if compiled:
            subprocess.run([self.python, "-m", "compileall", "-q", self.site], check=True)

    def _write(self, path: str, content: str | bytes) -> tuple[str, str, str]:
        data = content.encode() if isinstance(content, str) else content
        file = Path(os.path.normpath(self.site / path))
        file.parent.mkdir(parents=True, exist_ok=True)
        # A link in the environment leads to the interpreter of the machine: replace it, never write through it.
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        if file.parent.name == "bin":
            file.chmod(0o755)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        return path, f"sha256={digest}", str(len(data))


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    return Prefix(tmp_path / "venv")


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power does not fail in tests, and the disk may be busy with the work of others."""
    monkeypatch.setenv("ENVPACK_SYNC", "0")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Make stores; none may hold anything temporary at the end."""
    made: list[Store] = []

    def make() -> Store:
        made.append(Store(tmp_path / f"store{len(made)}"))
        return made[-1]

    yield make
    for store in made:
        store.release()
        left = sorted(path.name for path in (store.folder / "tmp").glob("*"))
        assert left == [], f"left in {store.folder}/tmp"


@pytest.fixture
def store(stores: Callable[[], Store]) -> Store:
    return stores()


@pytest.fixture
def needs() -> Callable[..., Dependencies]:
    """Make the answer that discovery would give."""

    def make(*distributions: tuple[str, str], files: Iterable[Path] = (), root: Path | None = None) -> Dependencies:
        return Dependencies(
            target="test",
            python=VERSION,
            platform=sysconfig.get_platform(),
            functions=(),
            distributions=tuple(
                Distribution(name, version, "direct", (), "wheel", ()) for name, version in distributions
            ),
            local_files=tuple(map(str, files)),
            local_roots=(str(root),) if root else (),
            unresolved=(),
        )

    return make


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run a line of Python in an interpreter and return what it prints."""

    def run(python: Path | str, code: str, *flags: str) -> str:
        command = [python, *(flags or ("-P",)), "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
