"""What happens to a history when processes are killed, files damaged, disks full: nothing flushed is lost unsaid."""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from envpack_monitor import History, HistoryWriter, Usage
from envpack_monitor.errors import HistoryError
from envpack_monitor.history import journal, storage
from envpack_monitor.history.filesystems import file_system_of, is_shared
from tests.monitor.helpers import wait_until

WRITERS, CALLS = 16, 500
KILLS = int(os.environ.get("SOAK_KILLS", "8"))
SMALL = 300_000


def usage(number: int = 0, category: str = "work") -> Usage:
    return Usage(category=category, started_at=float(number), wall_s=0.5)


def is_sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def filled(path: Path, count: int = 3000) -> Path:
    history = History(path)
    history.add_many(usage(number) for number in range(count))
    history.close()
    return path


def write_calls(path: Path, writer_number: int) -> None:
    with HistoryWriter(History(path), linger_s=0.001, rows_per_s=0) as writer:
        for number in range(CALLS):
            writer.put(usage(writer_number * CALLS + number, f"writer {writer_number % 2}"))


def test_sixteen_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    context = get_context("fork")
    processes = [context.Process(target=write_calls, args=(path, number)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * WRITERS
    assert sorted(call.started_at for call in History(path).iterate()) == [float(n) for n in range(WRITERS * CALLS)]
    assert is_sound(path)


TOLD_WRITER = """
import sys
from envpack_monitor import History, HistoryWriter
writer = HistoryWriter(History(sys.argv[1]), linger_s=0.001, rows_per_s=0)
number = 0
while True:
    for _ in range(20):
        writer.put({"category": sys.argv[2], "started_at": float(number), "wall_s": 0.5})
        number += 1
    writer.flush()
    print(number, flush=True)
"""


def test_kill_at_any_moment_loses_no_flushed_call_and_never_the_file(tmp_path: Path) -> None:
    path, chance = tmp_path / "h.sqlite", random.Random(5)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    flushed: dict[str, int] = {}
    for attempt in range(KILLS // 2):
        names = [f"{attempt}-{number}" for number in range(2)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", TOLD_WRITER, str(path), name], stdout=subprocess.PIPE, env=env, text=True
            )
            for name in names
        ]
        for name, process in zip(names, processes, strict=True):
            assert process.stdout is not None
            lines = [int(process.stdout.readline()) for _ in range(chance.randint(1, 60))]
            os.kill(process.pid, signal.SIGKILL)
            lines += [int(line) for line in process.stdout.read().splitlines() if line]
            process.wait()
            process.stdout.close()
            flushed[name] = lines[-1]
        assert is_sound(path)
    history = History(path)
    for name, count in flushed.items():
        found = [call.started_at for call in history.calls(name)]
        assert found == [float(number) for number in range(len(found))]
        # At most the batch that was being written came besides.
        assert count <= len(found) <= count + 20
    assert not list(tmp_path.glob("*damaged*"))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def truncate_within_a_page(path: Path) -> None:
    os.truncate(path, 5000)


def scribble(path: Path) -> None:
    noise, size = random.Random(1), path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(5):
            # Not in the first pages, from which all others are found.
            file.seek(noise.randrange(size // 4, size - 2000))
            file.write(noise.randbytes(2000))


def overwrite_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


@pytest.mark.parametrize("damage", [truncate, truncate_within_a_page, scribble, overwrite_head])
def test_damaged_file_is_set_aside_with_a_message_and_what_is_legible_comes_back(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path / "h.sqlite")
    damage(path)
    history = History(path)
    with caplog.at_level(logging.WARNING):
        # Whoever reads all, or writes, meets the damage.
        list(history.iterate())
        history.add_many([usage(1, "new")])
    assert len(history.calls("new")) == 1
    aside = tmp_path / "h.sqlite.damaged-1"
    assert aside.exists()
    assert f"envpack history merge {aside}" in caplog.text
    if damage is scribble:
        assert history.merge(aside).added > 1000


def test_empty_file_is_a_new_history(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite").touch()
    History(tmp_path / "h.sqlite").add_many([usage()])
    assert not list(tmp_path.glob("*damaged*"))


def test_foreign_file_is_set_aside_and_not_overwritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "h.sqlite"
    path.write_text("my thesis\n" * 1000)
    with caplog.at_level(logging.WARNING):
        History(path).add_many([usage()])
    assert (tmp_path / "h.sqlite.damaged-1").read_text() == "my thesis\n" * 1000
    assert "not a database" in caplog.text


def crashed(path: Path) -> Path:
    """Leave a history as a killed process does: two transactions in the journal only."""
    program = (
        "import os, sys; from envpack_monitor import History\n"
        "h = History(sys.argv[1])\n"
        "for n in range(2): h.add_many([{'category': 'k', 'wall_s': 1.0}] * 100)\n"
        "os.kill(os.getpid(), 9)"
    )
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", program, str(path)], env=env, check=False)
    return Path(f"{path}-wal")


def test_journal_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    log = crashed(tmp_path / "h.sqlite")
    assert log.stat().st_size > 0
    assert len(History(tmp_path / "h.sqlite").calls("k")) == 200


@pytest.mark.parametrize("with_memory", [True, False])
def test_damaged_journal_costs_what_follows_the_damage_and_is_told(
    with_memory: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h.sqlite"
    log = crashed(path)
    if not with_memory:
        Path(f"{path}-shm").unlink()
    frames = (log.stat().st_size - 32) // 4120
    with log.open("r+b") as file:
        file.seek(32 + (frames - 2) * 4120 + 500)
        file.write(b"\xee" * 64)
    with caplog.at_level(logging.WARNING):
        history = History(path)
        found = history.calls("k")
        history.add_many([usage(1, "new")])
    assert len(found) == 100
    assert is_sound(path)
    assert len(history.calls("new")) == 1
    assert "the journal of the history was damaged: the newest calls are lost" in caplog.text
    assert (tmp_path / "h.sqlite-wal.damaged-1").exists()
    assert History(path).calls("new") == history.calls("new")


def test_missing_journal_leaves_a_sound_file_with_what_it_held(tmp_path: Path) -> None:
    path = filled(tmp_path / "h.sqlite", 50)
    crashed(path).unlink()
    Path(f"{path}-shm").unlink(missing_ok=True)
    history = History(path)
    assert len(history.calls("work")) == 50
    history.add_many([usage(1, "new")])
    assert is_sound(path)


def test_sound_journal_is_never_called_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "h.sqlite"
    processes = [get_context("fork").Process(target=write_calls, args=(path, number)) for number in range(4)]
    for process in processes:
        process.start()
    with caplog.at_level(logging.WARNING):
        while any(process.is_alive() for process in processes):
            history = History(path)
            history.names()
            history.close()
    for process in processes:
        process.join(60)
    assert caplog.text == ""


def test_writer_goes_on_in_the_new_file_when_another_process_sets_the_old_one_aside(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    history = History(path)
    history.add_many([usage(1)])
    storage.set_aside(path, sqlite3.DatabaseError("malformed"), storage.identity(path))
    history.add_many([usage(2)])
    assert [call.started_at for call in History(path).calls("work")] == [2.0]
    assert [call.started_at for call in History(tmp_path / "h.sqlite.damaged-1").calls("work")] == [1.0]


def test_removed_file_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    history = History(path)
    history.add_many([usage(1)])
    for file in tmp_path.glob("h.sqlite*"):
        file.unlink()
    history.add_many([usage(2)])
    assert [call.started_at for call in History(path).calls("work")] == [2.0]


def test_path_may_be_relative_strange_or_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("h.sqlite", "50% of #1?.sqlite", "\u00e4 b"):
        History(name).add_many([usage()])
        assert len(History(tmp_path / name).calls("work")) == 1
    (tmp_path / "link").symlink_to(tmp_path / "h.sqlite")
    (tmp_path / "h.sqlite").write_bytes(b"garbage " * 1000)
    History("link").add_many([usage()])
    assert (tmp_path / "h.sqlite.damaged-1").exists()
    assert len(History("h.sqlite").calls("work")) == 1


def find_damage(path: Path) -> None:
    for number in range(20):
        History(path).add_many([usage(number)])


def test_processes_that_find_the_same_damage_set_it_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"garbage " * 1000)
    processes = [get_context("fork").Process(target=find_damage, args=(path,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(list(tmp_path.glob("*.damaged-?"))) == 1
    assert len(History(path).calls("work")) == 120
    assert is_sound(path)


def test_new_file_is_not_set_aside_for_the_damage_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"garbage " * 1000)
    damaged = storage.identity(path)
    History(path).add_many([usage()])
    storage.set_aside(path, sqlite3.DatabaseError("found late"), damaged)
    assert len(list(tmp_path.glob("*.damaged-?"))) == 1
    assert len(History(path).calls("work")) == 1


def test_folder_in_the_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite").mkdir()
    with pytest.raises(HistoryError, match="a file expected, a folder met"):
        History(tmp_path / "h.sqlite").add_many([usage()])


def fill_up(path: Path, errors_file: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))
    writer = HistoryWriter(History(path), linger_s=0.001, rows_per_s=0)
    try:
        for number in range(20_000):
            writer.put(usage(number))
        writer.flush()
    except HistoryError as error:
        errors_file.write_text(f"{writer.lost} {error}")
    os._exit(0)


def test_full_disk_is_an_error_that_counts_what_is_lost_and_spares_the_file(tmp_path: Path) -> None:
    path, errors_file = filled(tmp_path / "h.sqlite", 100), tmp_path / "error"
    process = get_context("fork").Process(target=fill_up, args=(path, errors_file))
    process.start()
    process.join(60)
    lost, _, text = errors_file.read_text().partition(" ")
    assert "set ENVPACK_HISTORY to a file that may be written" in text
    assert is_sound(path)
    history = History(path)
    assert len(history.calls("work")) + int(lost) == 20_100
    history.add_many([usage()])
    assert not list(tmp_path.glob("*damaged*"))


def use_as_nobody(path: Path, said: int) -> None:
    # What is imported late stands in folders that others may not read.
    History(path.with_name("other.sqlite")).add_many([usage()])
    os.setuid(65534)
    history = History(path)
    os.write(said, f"{len(history.calls('work'))}\n".encode())
    try:
        history.add_many([usage()])
    except HistoryError as error:
        os.write(said, str(error).encode())
    os._exit(0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_file_of_somebody_else_can_be_read_and_not_written(tmp_path: Path) -> None:
    path = filled(tmp_path / "h.sqlite", 30)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path.chmod(0o644)
    said, say = os.pipe()
    process = get_context("fork").Process(target=use_as_nobody, args=(path, say))
    process.start()
    process.join(60)
    os.close(say)
    with open(said) as answers:
        count, error = answers.read().split("\n")
    assert count == "30"
    assert "readonly database (set ENVPACK_HISTORY to a file that may be written)" in error
    assert not list(tmp_path.glob("*damaged*"))


MOUNTS = (
    rb"""21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /home rw - nfs4 server:/home rw
23 21 0:6 / /home/me/local\040disk rw - xfs /dev/sdb rw
24 21 0:7 / /scratch rw - lustre mds:/s rw
25 21 0:8 / /tmp rw - overlay overlay rw
26 21 0:9 / /tmp rw - tmpfs tmpfs rw
"""
    b"broken line\n"
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/h.sqlite", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/h.sqlite", "ext4"),
        ("/home/me/local disk/h.sqlite", "xfs"),
        ("/scratch/x/y", "lustre"),
        ("/tmp/h.sqlite", "tmpfs"),
    ],
)
def test_file_system_is_that_of_the_innermost_and_newest_mount(path: str, name: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == name


def journal_mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def test_file_system_of_many_machines_gets_a_journal_that_needs_no_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "h.sqlite", 1)
    assert (journal_mode(path), is_shared(path)) == ("wal", False)
    for module in (storage, journal):
        monkeypatch.setattr(module, "is_shared", lambda path: True)
    history = History(path)
    history.add_many([usage(1)])
    history.close()
    assert journal_mode(path) == "delete"
    monkeypatch.undo()
    # Seen from the machine that has the disk, it stays as the others need it.
    history = History(path)
    history.add_many([usage(2)])
    history.close()
    assert journal_mode(path) == "delete"
    assert len(history.calls("work")) == 3


def test_writer_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for number in range(5):
        with HistoryWriter(History(tmp_path / f"{number}.sqlite")) as writer:
            writer.put(usage())
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before[1], "the threads are gone")
    assert len(os.listdir("/proc/self/fd")) <= before[0]


SUBINTERPRETER = """
import importlib, sys
interpreters = importlib.import_module(sys.argv[2])
code = f'''
import sys
sys.path[:] = {sys.path!r}
from envpack_monitor import History, HistoryWriter
with HistoryWriter(History({sys.argv[1]!r})) as writer:
    for number in range(100):
        writer.put({{"category": "sub", "wall_s": 1.0}})
'''
number = interpreters.create()
failed = interpreters.run_string(number, code)
assert failed is None, failed
interpreters.destroy(number)
"""


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="sqlite3 of Python 3.12 aborts in subinterpreters")
def test_subinterpreters_write_too(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    subprocess.run([sys.executable, "-c", SUBINTERPRETER, str(tmp_path / "h.sqlite"), module], env=env, check=True)
    assert len(History(tmp_path / "h.sqlite").calls("sub")) == 100


def test_daemonic_pool_processes_write_what_they_measured(tmp_path: Path, history_file: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        pool.map(measured_call, range(20))
        pool.close()
        pool.join()
    wait_until(lambda: len(History(history_file).calls("pooled")) == 20, "the pool's calls are written")


def measured_call(number: int) -> None:
    from envpack_monitor import monitor

    with monitor("pooled"):
        pass


def test_copy_of_a_live_file_with_its_journal_opens(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    history = History(path)
    history.add_many(usage(number) for number in range(100))
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("h.sqlite*"):
        shutil.copy(file, tmp_path / "copy")
    assert len(History(tmp_path / "copy" / "h.sqlite").calls("work")) == 100
