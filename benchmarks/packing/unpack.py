"""Claim: unpacking costs little more than decoding, hashing and making the files, whatever language did that.

A pack of NumPy and SciPy is unpacked into an empty folder, in this process and with one thread. The raw loops do the
least that anybody could: zstd-decode all layers into memory and write each file with open, write and close, its path
known beforehand; and the same with the sha256 of each file, without which nobody knows what was unpacked. tar is the
program, reading the same file, which checks nothing.

    python benchmarks/packing/unpack.py [--python ENVIRONMENT/bin/python] [--rounds 9] [--quick] [--json]
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import zstandard
from rounds import SCRIPT, Subject, make_environment, options, process, show, take_turns
from rounds import work as work_folder

from envpack.pack import pack, unpack
from envpack.pack.formats.opening import open_environment
from envpack.pack.layer.entries import Entry
from envpack.pack.layer.reader import LayerReader
from envpack.pack.layer.tarformat import member_header, padding

Layer = tuple[bytes, list[tuple[Entry, int]]]


def read_layers(file: Path) -> list[Layer]:
    """Return each layer file with its entries and where their content begins in its decoded bytes."""
    found: list[Layer] = []
    with ExitStack() as stack:
        for ref, chunks in open_environment(stack, file).layer_files():
            data = b"".join(chunks)
            reader = LayerReader(io.BytesIO(data), ref.digest, str(file), ref)
            # Behind the list of entries, which is a member of its own.
            position = 512 + len(reader.listing) + len(padding(len(reader.listing)))
            places = []
            for entry in reader.entries:
                position += len(member_header(entry))
                places.append((entry, position))
                position += entry.size + len(padding(entry.size))
            found.append((data, places))
    return found


def raw(layers: list[Layer], folder: Path, hashed: bool) -> None:
    """Decode and write, and nothing else that could be left out."""
    made: set[str] = set()
    for data, places in layers:
        decoder = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
        view = memoryview(decoder.readall())
        for entry, position in places:
            path = f"{folder}/{entry.path}"
            parent = path.rpartition("/")[0]
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made.add(parent)
            content = view[position : position + entry.size]
            if hashed and hashlib.sha256(content).hexdigest() != entry.sha256:
                raise RuntimeError(f"{entry.path}: not the content of the pack")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(descriptor, content)
            os.close(descriptor)


def measured(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    chosen = options(__doc__ or "", 9)
    with work_folder() as work:
        (work / "script.py").write_text(SCRIPT)
        file, target = work / "script.tar.zst", work / "target"
        python = chosen.python or make_environment(work / "environment")
        pack(work / "script.py", python=python, store=work / "store", output=file)
        layers = read_layers(file)

        def forget() -> None:
            shutil.rmtree(target, ignore_errors=True)

        def tar() -> float:
            target.mkdir()
            return process(["tar", "--zstd", "-C", target, "-xf", file])

        subjects = [
            Subject("envpack, unpack", lambda: measured(lambda: unpack(file, target, python=python)), forget),
            Subject("raw: decode, write", lambda: measured(lambda: raw(layers, target, hashed=False)), forget),
            Subject("raw: decode, hash, write", lambda: measured(lambda: raw(layers, target, hashed=True)), forget),
            Subject("tar --zstd -x", tar, forget),
        ]
        files = sum(len(places) for _, places in layers)
        size = sum(entry.size for _, places in layers for entry, _ in places)
        take_turns(subjects, chosen.rounds)
        show(f"unpack {files:,} files, {size / 1e6:.0f} MB, one thread", subjects, chosen.json)


if __name__ == "__main__":
    main()
