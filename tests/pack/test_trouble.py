"""Disks that are full or read-only, and folders of others."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from envpack.errors import StoreError
from envpack.pack import Store, pack, unpack
from envpack.pack.store.locks import locked, sweep, temporary_folder

is_root = os.geteuid() == 0


_CLONE_NEWNS = 0x20000


@cache
def _has_mounts_of_its_own() -> bool:
    """Give this process mounts that nobody else sees and that go with it, however it ends; tell whether that worked."""
    library = ctypes.CDLL(None)
    if library.unshare(_CLONE_NEWNS):
        return False
    return not subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    if not _has_mounts_of_its_own():
        pytest.skip("no mounts of its own for a process here")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(not is_root, reason="mounts a small file system")
def test_a_small_disk_is_seen_by_this_process_alone(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        assert str(disk) in Path("/proc/self/mountinfo").read_text()
        others = Path(f"/proc/{os.getppid()}/mountinfo")
        assert not os.getppid() or str(disk) not in others.read_text(), "it goes when this process is killed"


@pytest.fixture
def answer(prefix, needs):
    prefix.install("one", "1.0", {"one.py": "value = 1\n", "one.bin": os.urandom(2_000_000)})
    return needs(("one", "1.0"))


@pytest.mark.skipif(not is_root, reason="mounts a small file system")
def test_a_store_without_room_is_said_and_left_clean(answer, prefix, store, tmp_path: Path) -> None:
    good = pack(answer, python=prefix.python, store=store, output=tmp_path / "x.tar.zst")
    with small_disk(tmp_path / "disk", "1m") as disk:
        full = Store(disk / "store")
        with pytest.raises(StoreError, match=r"no room left in store .*ENVPACK_STORE"):
            pack(answer, python=prefix.python, store=full)
        with pytest.raises(StoreError, match="no room left"):
            full.import_pack(tmp_path / "x.tar.zst")
        with pytest.raises(StoreError, match="no room left in folder"):
            unpack(tmp_path / "x.tar.zst", disk / "dir")
        with pytest.raises(StoreError, match="no room left in folder"):
            store.export(good, disk / "y.tar.zst")
        assert list((full.folder / "tmp").iterdir()) == []
        assert os.listdir(disk) == ["store"]
        assert full.missing(good) == good.layers
        full.release()  # a file system with open files cannot be unmounted


@pytest.mark.skipif(not is_root, reason="mounts a small file system")
def test_a_disk_without_any_room_can_be_collected(answer, prefix, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        store = Store(disk / "store")
        pack(answer, python=prefix.python, store=store)
        store.release()
        with pytest.raises(OSError, match="No space left"):
            (disk / "others").write_bytes(bytes(4_000_000))
        assert store.collect(max_size_bytes=0).plan.after_bytes == 0
        assert store.ls().layers == ()


def test_what_is_made_can_be_brought_to_the_disk_first(
    answer, prefix, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVPACK_SYNC")
    environment = store.materialise(pack(answer, python=prefix.python, store=store))
    assert (environment / "bin" / "python").exists()
    assert [item for item in store.verify() if item.problems] == []


@pytest.mark.skipif(not is_root, reason="mounts a small file system")
def test_a_read_only_store_serves_what_it_has_and_says_what_it_cannot(answer, prefix, needs, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "50m") as disk:
        store = Store(disk / "store")
        manifest = pack(answer, python=prefix.python, store=store)
        environment = store.materialise(manifest)
        store.release()  # nor made read-only
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        again = Store(disk / "store")
        assert pack(answer, python=prefix.python, store=again) == manifest
        assert again.materialise(manifest) == environment
        prefix.install("two", "1.0", {"two.py": ""})
        with pytest.raises(StoreError, match="read-only in store"):
            pack(needs(("two", "1.0")), python=prefix.python, store=again)
        again.release()


@pytest.mark.skipif(not is_root, reason="becomes another user")
def test_a_store_of_somebody_else_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    code = (
        "import os, sys\n"
        "from envpack.pack import Store\n"
        "from envpack.errors import StoreError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: Store(sys.argv[1]).add_blob('0' * 64, [b'x'])\n"
        "except StoreError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "store"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"no permission in store '{tmp_path}/store'")


def test_a_store_below_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write in store"):
        Store(tmp_path / "file" / "store").add_blob("0" * 64, [b"x"])


def test_waiting_for_a_lock_ends_with_what_is_waited_for(tmp_path: Path) -> None:
    waited = pytest.raises(StoreError, match=r"waited 0\.05 s for .*a\.lock")
    with locked(tmp_path / "a.lock"), waited, locked(tmp_path / "a.lock", 0.05):
        pass
    with locked(tmp_path / "a.lock", 0.05):
        pass


def test_a_lock_goes_to_the_next_when_its_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom envpack.pack.store.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"held\n"
        child.kill()
        with locked(tmp_path / "a.lock", 30):
            pass


def test_only_folders_without_an_owner_are_swept(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "file").write_text("")
    (tmp_path / "dead.lock").write_text("")
    (tmp_path / "no-lock").mkdir()
    with temporary_folder(tmp_path) as mine:
        assert sweep(tmp_path) == 1
        assert mine.exists()
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted([mine.name, "no-lock"])
    assert [path.name for path in tmp_path.iterdir()] == ["no-lock"]
