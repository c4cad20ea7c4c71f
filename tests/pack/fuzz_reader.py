"""Hand hostile layer files and packs to what reads them, in great numbers, and look at what they did.

    python -m tests.pack.fuzz_reader [--inputs 1000000] [--processes 2] [--seed 1]
    python -m tests.pack.fuzz_reader --only 1/4711                    one input again, with its traceback

An input is made from its seed and number alone. Whatever it is, it must be taken or refused with an error of envpack
that says what is wrong with it; and then all of this must hold:

- files, folders and links were made below the target alone, each by its name in an open folder or by a path that begins
  with the target: an audit hook sees every call that opens, makes, renames, links or removes;
- nothing beside the target came, went or changed;
- no descriptor stays open, and nothing temporary stays beside a target that was refused;
- what was taken is on the disk exactly as its entry list says;
- it cost less than ten seconds of CPU, and the process less than 1.5 GB of address space.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import multiprocessing
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from envpack.discover.environment.interpreter import inspect_interpreter
from envpack.errors import (
    IncompatiblePackError,
    LayerConflictError,
    PackFormatError,
    PrefixTooLongError,
    StoreError,
)
from envpack.pack import Store, unpack
from envpack.pack.formats import foreign
from envpack.pack.layer.entries import FOLDER, LINK
from envpack.pack.layer.reader import ChunkStream, LayerReader
from tests.pack.hostile import hostile_foreign, hostile_layer, hostile_pack, hostile_plain

CPU_LIMIT_S = 10
MEMORY_LIMIT_BYTES = 1500 << 20
_DEPTH = 7  # so many times `..` leads from the target to a place that is looked at

# What an input may be refused with. StoreError is for the disk; only paths that one file system has and another has not
# may end so.
REFUSALS = (PackFormatError, IncompatiblePackError, LayerConflictError, PrefixTooLongError)


class BrokenLawError(AssertionError):
    """An input did what none may do."""


class _Watch:
    """An audit hook that notes every write beside the folder it was told; hooks cannot be taken away, only told so."""

    def __init__(self) -> None:
        self._inside = ""
        # What is known of interpreters is kept; hostile input may be the first to ask.
        self._known = os.environ.get("ENVPACK_INDEX_CACHE", "") or "/nowhere"
        self.strange: list[str] = []
        sys.addaudithook(self._see)

    @contextmanager
    def only_in(self, folder: str) -> Iterator[None]:
        self.strange.clear()
        self._inside = folder
        kept = sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        try:
            yield
        finally:
            sys.dont_write_bytecode = kept
            self._inside = ""

    def _see(self, event: str, values: tuple[Any, ...]) -> None:
        if not self._inside or event not in _WRITING:
            return
        if event == "open" and not (isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        # A link may hold any text; where it leads is judged by the entry list.
        names = values[1:2] if event == "os.symlink" else values[: _WRITING[event]]
        self.strange += [f"{event} {name!r}" for name in names if not self._is_inside(name)]

    def _is_inside(self, name: object) -> bool:
        if isinstance(name, int):
            return True  # an open file
        text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else repr(name)
        if text == os.devnull:
            return True
        if "/" not in text:
            return text not in ("", ".", "..")
        if text == self._known or text.startswith(self._known + "/"):
            return True
        return text.startswith(self._inside + "/") and ".." not in text.split("/")


# Events and how many of their first values are paths.
_WRITING = {
    "open": 1, "os.mkdir": 1, "os.symlink": 2, "os.link": 2, "os.rename": 2, "os.remove": 1, "os.rmdir": 1,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1, "shutil.move": 2,
    "shutil.copyfile": 2,
}  # fmt: skip

_watch: list[_Watch] = []


class Arena:
    """A place to read hostile files in: a target deep in folders in which nothing else may happen.

    Args:
        root: an empty folder of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outside = str(root / "outside")
        self._deep = root.joinpath(*"1234567"[:_DEPTH])
        self.target = str(self._deep / "target")
        os.makedirs(self._deep)
        os.mkdir(self.outside)
        (root / "outside" / "kept").write_text("kept")
        if not _watch:
            inspect_interpreter(None)  # asked for once, and remembered in a file of its own
            _watch.append(_Watch())
        self._watch = _watch[0]
        self._store = Store(self._deep / "store")
        self._above = [self.outside, *(str(place) for place in self._deep.parents if place.is_relative_to(root))]
        self._before = self._around()
        self._open = len(os.listdir("/proc/self/fd"))
        self.done: Counter[str] = Counter()

    def try_one(self, seed: int, number: int) -> str:
        """Read one input and return how that ended.

        Raises:
            BrokenLawError: it did what none may do.
            Exception: anything that is no error of envpack.
        """
        chance = Random(f"{seed}/{number}")
        way = chance.choices(
            (self._extract, self._verify, self._unpack, self._import, self._take_apart), (28, 1, 5, 2, 3)
        )[0]
        with _limited(), self._watch.only_in(str(self._deep)):
            try:
                ending = f"{way.__name__[1:]}: {way(chance)}"
            except REFUSALS as error:
                ending = f"{way.__name__[1:]}: {type(error).__name__}: {_kind(str(error))}"
            except StoreError as error:
                if "File name too long" not in str(error):
                    raise
                ending = f"{way.__name__[1:]}: StoreError: name too long"
        self._check(ending)
        self.done[ending] += 1
        return ending

    def _extract(self, chance: Random) -> str:
        """Read a layer alone, as a store does and as a folder does."""
        layer = hostile_layer(chance, self.outside)
        os.mkdir(self.target)
        descriptor = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ref = layer.ref if chance.random() < 0.7 else None
            reader = LayerReader(_stream(chance, layer.data), layer.digest, "fuzz", ref)
            reader.extract(descriptor, read_only=chance.random() < 0.5)
            self._compare(reader)
        finally:
            os.close(descriptor)
        return "taken"

    def _verify(self, chance: Random) -> str:
        """Read a layer and write nothing."""
        layer = hostile_layer(chance, self.outside)
        LayerReader(_stream(chance, layer.data), layer.digest, "fuzz", layer.ref).check()
        return "taken"

    def _take_apart(self, chance: Random) -> str:
        """Unpack an archive of another tool."""
        file = self._write(hostile_foreign(chance, self.outside))
        os.mkdir(self.target)
        try:
            foreign.extract(file, self.target)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return "name too long"
        finally:
            os.unlink(file)
        return "taken"

    def _unpack(self, chance: Random) -> str:
        file = self._write(self._any_pack(chance))
        try:
            unpack(file, self.target)
        except BaseException:
            if os.path.exists(self.target):
                raise BrokenLawError("refused, and there") from None
            raise
        finally:
            os.unlink(file)
        return "taken"

    def _import(self, chance: Random) -> str:
        file = self._write(self._any_pack(chance))
        self._store = Store(self._deep / "store")
        try:
            made = self._store.materialise(self._store.import_pack(file))
            if not (made / "bin" / "python").exists():
                raise BrokenLawError(f"environment without interpreter: {made}")
            for verified in self._store.verify(1):
                if verified.problems:
                    raise BrokenLawError(f"{verified.kind} {verified.name} of the store: {verified.problems}")
        finally:
            os.unlink(file)
            self._store.release()
            left = list(self._store.folder.glob("tmp/*"))
            shutil.rmtree(self._store.folder, ignore_errors=True)
            if left:
                raise BrokenLawError(f"left in the store: {left}")
        return "taken"

    def _any_pack(self, chance: Random) -> bytes:
        return chance.choice((hostile_pack, hostile_plain))(chance, self.outside)

    def _write(self, data: bytes) -> str:
        file = str(self._deep / "pack")
        with open(file, "wb") as stream:
            stream.write(data)
        return file

    def _compare(self, reader: LayerReader) -> None:
        """Compare what is on the disk with the entry list."""
        met = dict(_walk(self.target))
        listed: dict[str, str] = {}
        for entry in reader.entries:
            listed[entry.path] = (
                "folder" if entry.mode == FOLDER else entry.target if entry.mode == LINK else entry.sha256
            )
            parent = entry.path.rpartition("/")[0]
            while parent:
                listed[parent] = "folder"
                parent = parent.rpartition("/")[0]
        if met != listed:
            raise BrokenLawError(f"on the disk: {sorted(met.items())}, listed: {sorted(listed.items())}")

    def _check(self, ending: str) -> None:
        if self._watch.strange:
            raise BrokenLawError(f"wrote beside the target ({ending}): {self._watch.strange}")
        shutil.rmtree(self.target, ignore_errors=True)
        if os.path.lexists(self.target):
            raise BrokenLawError(f"a target that cannot be removed ({ending})")
        around = self._around()
        if around != self._before:
            raise BrokenLawError(f"beside the target ({ending}): {around} met, {self._before} before")
        count = len(os.listdir("/proc/self/fd"))
        if count != self._open:
            raise BrokenLawError(f"open descriptors ({ending}): {count} met, {self._open} before")

    def _around(self) -> tuple[object, ...]:
        """Return what is beside the target, and what changes if anything comes or goes in the folders above."""
        times = [os.stat(folder).st_mtime_ns for folder in self._above]
        return sorted(os.listdir(self._deep)), times, Path(self.outside, "kept").read_text()


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                yield os.path.relpath(path, folder), os.readlink(path)
            elif stat.S_ISDIR(mode):
                yield os.path.relpath(path, folder), "folder"
            elif stat.S_ISREG(mode) and not mode & 0o7022:
                with open(path, "rb") as stream:
                    yield os.path.relpath(path, folder), hashlib.sha256(stream.read()).hexdigest()
            else:
                yield os.path.relpath(path, folder), f"mode {mode:o}"


def _stream(chance: Random, data: bytes) -> Any:
    """Give the bytes as a file does, or in chunks as a network does."""
    if chance.random() < 0.5:
        return io.BytesIO(data)
    size = chance.choice((1 if len(data) < 200 else 50, 300, 5000))
    return ChunkStream(data[start : start + size] for start in range(0, len(data), size))


def _kind(message: str) -> str:
    """Return the part of a message that does not depend on the input."""
    return _VARYING.sub("~", message)[:48].rstrip()


# Names and values in quotes, digests, numbers, paths, what a layer calls itself, and what is wrong with an index.
_VARYING = re.compile(
    r"""(?<=damaged: ).*|/\S+|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:[nm] 1 \()?\b[0-9a-f]{12,}\b\)?|-?\d[\d.]*"""
)


@contextmanager
def _limited() -> Iterator[None]:
    def expired(*_: object) -> None:
        raise BrokenLawError(f"more than {CPU_LIMIT_S} s of CPU")

    before = signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(
    seed: int, numbers: range, root: Path, report: Callable[[str], object] = print
) -> tuple[Counter[str], list[str]]:
    """Try some inputs.

    Returns:
        How many ended how, and those that broke a law, each with what it did.
    """
    arena = Arena(root)
    broken = []
    for number in numbers:
        try:
            arena.try_one(seed, number)
        except Exception as error:  # this is what is looked for
            broken.append(f"{seed}/{number}: {type(error).__name__}: {str(error)[:300]}")
            report(broken[-1])
            # Not by Python, which cannot remove every tree that it can make.
            subprocess.run(["rm", "-rf", root], check=True)
            os.mkdir(root)
            done = arena.done
            arena = Arena(root)
            arena.done = done
    return arena.done, broken


def _work(job: tuple[int, int, int]) -> tuple[Counter[str], list[str], int]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        done, broken = run(job[0], range(job[1], job[2]), Path(folder, "arena"))
    return done, broken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Try as many inputs as were asked for and print how they ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one input, such as 1/4711, with its traceback")
    chosen = parser.parse_args()
    os.environ["ENVPACK_SYNC"] = "0"
    if chosen.only:
        seed, number = map(int, chosen.only.split("/"))
        with tempfile.TemporaryDirectory() as folder:
            print(Arena(Path(folder, "arena")).try_one(seed, number))
        return 0
    size = min(5000, -(-chosen.inputs // chosen.processes))
    jobs = [(chosen.seed, start, min(start + size, chosen.inputs)) for start in range(0, chosen.inputs, size)]
    done: Counter[str] = Counter()
    broken: list[str] = []
    largest, began = 0, time.monotonic()
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for count, (ended, wrong, memory) in enumerate(pool.imap_unordered(_work, jobs), start=1):
            done += ended
            broken += wrong
            largest = max(largest, memory)
            print(f"\r{count * size:,} inputs, {len(broken)} broke a law", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for ending, count in sorted(done.items(), key=lambda pair: -pair[1]):
        print(f"{count:>9,}  {ending}")
    print(f"{sum(done.values()) + len(broken):,} inputs of seed {chosen.seed} in {time.monotonic() - began:.0f} s, "
          f"largest process {largest / 1e6:.0f} MB: {len(broken)} broke a law")  # fmt: skip
    for line in broken[:100]:
        print(line)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
