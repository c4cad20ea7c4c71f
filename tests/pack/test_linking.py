"""Files of environments: names for the same file, shared blocks where names are impossible, else copies."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from envpack.pack import Store, pack
from envpack.pack.store.linking import link
from tests.pack.conftest import Prefix


@pytest.fixture
def original(tmp_path: Path) -> Path:
    file = tmp_path / "original"
    file.write_bytes(os.urandom(100_000))
    file.chmod(0o555)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    return file


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse links as a file system does that is not that of the layers."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)

    monkeypatch.setattr(os, "link", refuse)


def test_a_file_gets_another_name(original: Path) -> None:
    link(str(original), f"{original}2")
    assert original.stat().st_nlink == 2


def test_where_names_are_impossible_there_is_a_copy_with_mode_and_times(original: Path, no_links: None) -> None:
    copy = Path(f"{original}2")
    link(str(original), str(copy))
    assert (original.stat().st_nlink, copy.stat().st_nlink) == (1, 1)
    assert copy.read_bytes() == original.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o555
    assert copy.stat().st_mtime == 1_000_000_000


def test_blocks_are_shared_where_the_file_system_can(
    original: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def share(target: int, request: int, source: int) -> int:
        asked.append(request)
        os.sendfile(target, source, 0, os.fstat(source).st_size)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", share)
    link(str(original), f"{original}2")
    assert asked == [0x40049409]
    assert Path(f"{original}2").read_bytes() == original.read_bytes()


def test_nothing_is_replaced(original: Path, no_links: None) -> None:
    Path(f"{original}2").write_text("other")
    with pytest.raises(FileExistsError):
        link(str(original), f"{original}2")
    assert Path(f"{original}2").read_text() == "other"


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link(str(tmp_path / "none"), str(tmp_path / "two"))


def test_an_environment_of_copies_runs(prefix: Prefix, store: Store, needs, run_python, no_links: None) -> None:
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n"})
    environment = store.materialise(pack(needs(("one", "1.0")), python=prefix.python, store=store))
    assert run_python(environment / "bin" / "python", "import one; print(one.value)") == "1"
    (file,) = environment.glob("lib/python*/site-packages/one/__init__.py")
    assert file.stat().st_nlink == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
