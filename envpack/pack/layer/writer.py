"""Writing one layer: read, hash and compress each file once.

A layer file is two zstd frames: the first holds the entry list, the second the files in the order of the list. Because
frames are decoded one after the other, the list can be written last and yet stand first, so no file is read twice and
what is hashed is what is compressed. The same entries give the same bytes, whatever the order in which they were found.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from envpack.errors import DistributionFilesError
from envpack.pack.layer.entries import (
    EXECUTABLE,
    FILE,
    FOLDER,
    LINK,
    RESERVED,
    Entry,
    Listing,
    Placeholder,
    check_listing,
    differ_in_case,
    entries_digest,
)
from envpack.pack.layer.tarformat import member_header, padding

# Chosen by measurement (docs/explanation/layers.md): each level above costs more time than it saves bytes. Of level 3,
# a wider window and a larger table for short matches give back 2 % for a tenth of the time.
COMPRESSION_LEVEL = 3
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    COMPRESSION_LEVEL, window_log=22, hash_log=17, chain_log=17, write_checksum=False
)

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """Something that becomes an entry.

    Attributes:
        path: where it goes below the root of the environment.
        file: the file, link or folder on disk to read, or an empty string where `make` gives the content.
        make: gives the content, or None where there turns out to be nothing to write.
        executable: for content that is made: whether it can be run.
        follow: whether a link is packed as what it leads to (some installers link every file into their cache).
        placeholder: mode and text of the placeholder in the content, where there is one.
        target: where a link is to lead, where not as it does on disk.
        pieces: gives content that is made and may be large, the same each time.
    """

    path: str
    file: str = ""
    make: Callable[[], bytes | None] | None = None
    executable: bool = False
    follow: bool = False
    placeholder: tuple[str, str] | None = None
    target: str = ""
    pieces: Callable[[], Iterator[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """What `write_layer` wrote.

    Attributes:
        digest: the name of the layer.
        entries: what it holds.
        blob_bytes: size of the layer file.
    """

    digest: str
    entries: list[Entry]
    blob_bytes: int


def list_member(digest: str, size: int) -> Entry:
    """Return the entry under which a layer file carries its own entry list."""
    return Entry(f"{RESERVED}/layers/{digest}.json", FILE, size, digest, "")


def write_layer(
    sources: Iterable[Source], blob: BinaryIO, scratch: BinaryIO, *, case_matters: bool = False
) -> WrittenLayer:
    """Write a layer file.

    Args:
        sources: what goes in, in any order; of two with the same path the first counts.
        blob: receives the layer file.
        scratch: an empty file on the same file system for the second frame until the first is known.
        case_matters: whether names may differ in case only.

    Returns:
        The digest and the entries.

    Raises:
        DistributionFilesError: a file changes while it is read, or its name cannot be packed.
    """
    unique: dict[str, Source] = {}
    for source in sources:
        unique.setdefault(source.path, source)
    content = _Frame(scratch)
    entries = [entry for path in sorted(unique) if (entry := _add(unique[path], content)) is not None]
    content.finish()
    placeholders = [(path, known) for path in sorted(unique) if (known := unique[path].placeholder) is not None]
    whole = Listing(
        entries,
        tuple(Placeholder(path, mode, text) for path, (mode, text) in placeholders),
        case_matters and differ_in_case(entries),
    )
    check_listing(whole)
    listing = whole.canonical()
    digest = entries_digest(listing)
    head = _Frame(blob)
    head.feed(member_header(list_member(digest, len(listing))) + listing + padding(len(listing)))
    head.finish()
    _append(scratch, blob)
    return WrittenLayer(digest, entries, blob.tell())


def layer_frames(digest: str, listing: bytes, members: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the bytes of a layer file.

    Args:
        digest: its name.
        listing: the canonical bytes of its entry list.
        members: its files as they stand in a tar archive.
    """
    head = member_header(list_member(digest, len(listing))) + listing + padding(len(listing))
    for part in ([head], members):
        out = io.BytesIO()
        frame = _Frame(out)
        for data in part:
            frame.feed(bytes(data))
            if out.tell():
                yield out.getvalue()
                out.seek(0)
                out.truncate()
        frame.finish()
        yield out.getvalue()


class _Frame:
    """One zstd frame, fed in pieces of any size; the compressor sees equal pieces, so the bytes do not vary."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compressobj()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def feed(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _CHUNK_BYTES:
            joined = b"".join(self._pending)
            whole = len(joined) - len(joined) % _CHUNK_BYTES
            view = memoryview(joined)
            for start in range(0, whole, _CHUNK_BYTES):
                self._out.write(self._compressor.compress(view[start : start + _CHUNK_BYTES]))
            self._pending = [bytes(view[whole:])]
            self._pending_bytes = len(joined) - whole

    def finish(self) -> None:
        self._out.write(self._compressor.compress(b"".join(self._pending)))
        self._out.write(self._compressor.flush())


def _add(source: Source, frame: _Frame) -> Entry | None:
    if source.make is not None:
        data = source.make()
        if data is None:
            return None
        mode = EXECUTABLE if source.executable else FILE
        entry = Entry(source.path, mode, len(data), hashlib.sha256(data).hexdigest(), "")
        frame.feed(member_header(entry) + data + padding(len(data)))
        return entry
    if source.pieces is not None:
        return _add_pieces(source, source.pieces, frame)
    if source.target:
        entry = Entry(source.path, LINK, 0, "", source.target)
        frame.feed(member_header(entry))
        return entry
    try:
        if source.follow or not os.path.islink(source.file):
            descriptor = os.open(source.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode):
                    return _add_file(source, status, descriptor, frame)
            finally:
                os.close(descriptor)
        status = os.stat(source.file, follow_symlinks=source.follow)
        if stat.S_ISLNK(status.st_mode):
            entry = Entry(source.path, LINK, 0, "", os.readlink(source.file))
        elif stat.S_ISDIR(status.st_mode):
            entry = Entry(source.path, FOLDER, 0, "", "")
        else:
            raise DistributionFilesError(f"neither file, folder nor link: {source.file!r}", "leave it out")
    except OSError as error:
        raise DistributionFilesError(f"cannot read {source.file!r}: {error.strerror}") from error
    frame.feed(member_header(entry))
    return entry


def _add_pieces(source: Source, pieces: Callable[[], Iterator[bytes]], frame: _Frame) -> Entry:
    """Make content twice, rather than hold all of it: its size has to be known first."""
    mode = EXECUTABLE if source.executable else FILE
    size = sum(len(piece) for piece in pieces())
    frame.feed(member_header(Entry(source.path, mode, size, "", "")))
    digest = hashlib.sha256()
    left = size
    for piece in pieces():
        digest.update(piece)
        frame.feed(piece)
        left -= len(piece)
    if left:
        raise DistributionFilesError(f"file changed while it was packed: {source.path!r}", "pack again")
    frame.feed(padding(size))
    return Entry(source.path, mode, size, digest.hexdigest(), "")


def _add_file(source: Source, status: os.stat_result, descriptor: int, frame: _Frame) -> Entry:
    """Stream one file into the frame; its header, which needs the size but not the digest, goes first."""
    mode = EXECUTABLE if status.st_mode & 0o100 else FILE
    size = left = status.st_size
    frame.feed(member_header(Entry(source.path, mode, size, "", "")))
    digest = hashlib.sha256()
    while True:
        # One byte more than is expected, so that a file that grows is noticed without another call.
        asked = min(left + 1, _CHUNK_BYTES)
        data = os.read(descriptor, asked)
        left -= len(data)
        if left < 0:
            break
        digest.update(data)
        frame.feed(data)
        if not data or (left == 0 and len(data) < asked):
            break
    if left:
        raise DistributionFilesError(f"file changed while it was packed: {source.file!r}", "pack again")
    frame.feed(padding(size))
    return Entry(source.path, mode, size, digest.hexdigest(), "")


def _append(scratch: BinaryIO, blob: BinaryIO) -> None:
    """Copy the second frame behind the first, inside the kernel."""
    scratch.flush()
    blob.flush()
    left = scratch.tell()
    offset = 0
    while left:
        copied = os.sendfile(blob.fileno(), scratch.fileno(), offset, left)
        offset += copied
        left -= copied
    blob.seek(0, os.SEEK_END)
