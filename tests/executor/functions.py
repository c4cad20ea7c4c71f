"""Functions that the tests call in context processes. They travel by name: this module must be cheap to import."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from envpack_executor import task


def add(left: int, right: int) -> int:
    return left + right


def double(value: Any) -> Any:
    return 2 * value


def double_after(value: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return 2 * value


def pid() -> int:
    return os.getpid()


def keywords(**words: Any) -> dict[str, Any]:
    return words


def wait_for(path: str) -> str:
    """Return when the file `path` is there; how a test holds a call for exactly as long as it wants."""
    deadline = time.monotonic() + 100
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.005)
    return path


def announce_and_wait_for(started: str, path: str) -> str:
    Path(started).touch()
    return wait_for(path)


def wait_for_some(path: str) -> str:
    """Return at once, or when the file `path` is there if it is named."""
    return wait_for(path) if path else path


def note(journal: str, word: object) -> None:
    _note(journal, word)


def fail_at_first(tries: str, failures: int) -> int:
    """Raise at so many tries, then return the number of this one; `tries` is a file that counts them."""
    _note(tries, "x")
    number = len(Path(tries).read_text().split())
    if number <= failures:
        raise ValueError(f"try {number}")
    return number


def _note_pid(file: str, pid: int = 0) -> None:
    """Write the pid so that whoever sees the file sees all of it."""
    beside = Path(f"{file}.{os.getpid()}")
    beside.write_text(str(pid or os.getpid()))
    beside.rename(file)


def sleep_in(started: str, seconds: float) -> None:
    _note_pid(started)
    time.sleep(seconds)


# --- failures


def divide(left: int, right: int) -> float:
    return left / right


def raise_system_exit(code: int) -> NoReturn:
    sys.exit(code)


def raise_keyboard_interrupt() -> NoReturn:
    raise KeyboardInterrupt


class TwoArguments(Exception):
    """Cannot be rebuilt from its `args`, as many exceptions of real libraries."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def raise_unbuildable() -> NoReturn:
    raise TwoArguments(7, "seven things went wrong")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def raise_unprintable() -> NoReturn:
    raise Unprintable


def return_generator() -> Iterator[int]:
    return (number for number in range(3))


def return_lock() -> Any:
    return threading.Lock()


async def return_coroutine() -> int:
    return 1


async def yield_later() -> AsyncIterator[int]:
    yield 1


def _explode() -> NoReturn:
    raise RuntimeError("boom while unpickling")


class ExplodesWhenUnpickled:
    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _explode, ()


class EndsTheReader:
    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return sys.exit, (9,)


def return_explosive() -> ExplodesWhenUnpickled:
    return ExplodesWhenUnpickled()


def return_system_exit() -> EndsTheReader:
    return EndsTheReader()


# --- output


def say(words: str) -> None:
    print(words)


def say_and_fail(words: str) -> NoReturn:
    print(words)
    sys.stdout.buffer.write(b"bytes\n")
    logging.getLogger("tests").warning("a warning of logging")
    raise ValueError(words[:20])


def say_and_crash(words: str) -> None:
    print(words, file=sys.stderr)
    read_nowhere()


# --- losses


def leave(status: int) -> NoReturn:
    os._exit(status)


def kill_self(signal_number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def kill_self_once(marker: str) -> str:
    """Fall at the first try; the marker tells the second that it is the second."""
    if not os.path.exists(marker):
        Path(marker).touch()
        kill_self()
    return "survived"


def read_nowhere() -> None:
    ctypes.string_at(0)


def leave_a_grandchild() -> tuple[int, int]:
    child = subprocess.Popen(["sleep", "100"])
    return os.getpid(), child.pid


def spin(started: str) -> None:
    _note_pid(started)
    while True:
        pass


class EndsWhoeverLearnsIt:
    """A function whose arrival ends the process, before any call of it began."""

    def __call__(self) -> None:
        raise AssertionError("never called")

    def __reduce__(self) -> tuple[Callable[[int, int], None], tuple[int, int]]:
        return _kill_reader, (os.getpid(), signal.SIGKILL)


def _kill_reader(sender: int, signal_number: int) -> None:
    if os.getpid() != sender:
        os.kill(os.getpid(), signal_number)


# --- children


def fork_and_return() -> int:
    """Come back twice: in the process that was called, and in a copy of it."""
    return os.getpid() if os.fork() else -1


def start_thread() -> dict[str, Any]:
    threading.Thread(target=threading.Event().wait, name="pump", daemon=True).start()
    return {}


def append(words: list[str], word: str) -> list[str]:
    words.append(word)
    return words


def list_for_all() -> dict[str, Any]:
    return {"words": []}


def sleep_with_child(started: str, seconds: float) -> None:
    child = subprocess.Popen(["sleep", str(seconds)])
    _note_pid(started)
    _note_pid(f"{started}.child", child.pid)
    child.wait()


# --- what a process remembers

_seen: list[weakref.ref[Any]] = []


class Thing:
    pass


def make_thing(number: int) -> Thing:
    return Thing()


class Caller:
    def call(self) -> int:
        return 1


def remember_weakly(thing: Thing) -> None:
    _seen.append(weakref.ref(thing))


def still_referenced() -> int:
    return sum(reference() is not None for reference in _seen)


# --- contexts


def set_up(name: str = "model") -> dict[str, Any]:
    return {"model": [name], "process": os.getpid()}


def hold_memory(name: str, size: int) -> dict[str, Any]:
    return {"held": b"x" * size}


def hang_with_a_child(pids: str) -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        Path(pids).write_text(f"{os.getpid()} {child.pid}")
        time.sleep(1000)


def log_and_die(log: str) -> None:
    log_set_up(log)
    kill_self()


def visible_devices() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def tell_device_and_wait(folder: str, number: int, go: str) -> str | None:
    device = visible_devices()
    announced = Path(folder) / f"device-{number}"
    Path(folder, f"new-{number}").write_text(str(device))
    os.rename(Path(folder, f"new-{number}"), announced)
    wait_for(go)
    return device


def log_set_up(log: str) -> dict[str, Any]:
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return {"log": log}


def fail_to_set_up(path: str) -> NoReturn:
    raise FileNotFoundError(2, "no such model", path)


def set_up_nothing_useful() -> int:
    return 42


def leave_in_set_up() -> NoReturn:
    os._exit(5)


def no_set_up_result() -> None:
    return None


@task(context=(set_up, "resnet"))
def infer(image: int, model: list[str]) -> tuple[int, list[str]]:
    return image, model


@task(context=(set_up, "resnet"))
def infer_by_keyword(image: int, *, model: list[str], scale: int = 1) -> tuple[int, list[str]]:
    return image * scale, model


@task(context=set_up)
def which_process(process: int) -> int:
    return process


@task(mode="fresh")
def fresh_pid() -> int:
    return os.getpid()


def spike(size: int, seconds: float) -> None:
    """Make `size` bytes resident for a moment, past the allocator, which might keep them."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, 4096):
            memory[offset] = 1
        time.sleep(seconds)


def initialize(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def fail_to_initialize(word: str) -> NoReturn:
    raise ValueError(f"cannot initialize: {word}")


def pickled_size(value: Any) -> int:
    return len(pickle.dumps(value))


class Model:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task(category="scaled")
    def scaled(self, value: int) -> int:
        return self.factor * value


# --- memory


def _note(journal: str, *words: object) -> None:
    """Append a line to a file that several processes write."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


def touch(size: int, seconds: float, journal: str, name: str) -> str:
    """Have `size` bytes in memory for a while, and note begin and end with the resident memory."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1
        _note(journal, time.monotonic_ns(), "begin", name, _resident_bytes(), os.getpid())
        time.sleep(seconds)
        _note(journal, time.monotonic_ns(), "end", name, _resident_bytes(), os.getpid())
    return name


def touch_and_wait(size: int, started: str, path: str) -> int:
    """Have `size` bytes in memory until the file `path` is there; return the pid."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1
        Path(started).touch()
        wait_for(path)
    return os.getpid()


def load_number(number: int) -> dict[str, int]:
    return {"number": number}


def touch_with_number(size: int, started: str, path: str, number: int = 0) -> int:
    """As `touch_and_wait`, and return what the set-up gave."""
    touch_and_wait(size, started, path)
    return number


def touch_when(size: int, started: str, go: str, path: str) -> int:
    """Have `size` bytes in memory from when the file `go` is there until `path` is; return the pid."""
    Path(started).touch()
    wait_for(go)
    return touch_and_wait(size, started, path)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
