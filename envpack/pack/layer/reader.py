"""Reading one layer file: nothing is written before its entry list is proved and judged, nothing after it is trusted.

The entry list comes first. Its sha256 must be the digest that was asked for, and `parse_listing` must find it safe.
From then on every byte of the archive but the files' content is known: headers and padding are computed and compared,
and the content is hashed while it is written. There is no tar parser that could be led astray.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Protocol

import zstandard

from envpack.errors import DigestMismatchError, PackFormatError
from envpack.pack.layer.entries import EXECUTABLE, FOLDER, LINK, Entry, parse_listing
from envpack.pack.layer.tarformat import BLOCK_BYTES, member_header, padding
from envpack.pack.layer.writer import list_member
from envpack.pack.manifest import LayerRef

# A window larger than this is asked for by no level that we write; it bounds the memory of a hostile file.
_MAX_WINDOW_BYTES = 1 << 27
_MAX_LISTING_BYTES = 1 << 26
# No entry takes more in the list, however its path and link are written in JSON, with its placeholder.
_MAX_ROW_BYTES = 1 << 15
_BUFFER_BYTES = 1 << 20


class Readable(Protocol):
    """Anything that gives bytes: a file, or a part of one."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


class ChunkStream:
    """A stream made of chunks of any size.

    Args:
        chunks: the bytes in order.
        copy: a file that receives what was read, for a layer that is kept while it is unpacked.
    """

    def __init__(self, chunks: Iterable[bytes], copy: BinaryIO | None = None) -> None:
        self._chunks = filter(None, chunks)
        self._copy = copy
        self._pending = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        if not self._pending:
            self._pending = next(self._chunks, b"")
            if self._copy is not None:
                self._copy.write(self._pending)
        if size < 0:
            size = len(self._pending)
        data, self._pending = self._pending[:size], self._pending[size:]
        return data


class LayerReader:
    """One layer file that is read once from front to back.

    Args:
        stream: the layer file; or decoded bytes in which the layer stands before something else.
        digest: the layer that it must be.
        source: file or peer, for messages.
        ref: what the manifest says about the layer; its sizes must hold.

    Attributes:
        listing: canonical bytes of the entry list.
        entries: the entries, judged safe.
        placeholders: the files in which the folder of the environment is to be written.

    Raises:
        PackFormatError: the file is truncated, not a layer file, or its entry list is not safe.
        DigestMismatchError: the entry list is not the one that the digest names.
    """

    def __init__(self, stream: Readable | ExactStream, digest: str, source: str, ref: LayerRef | None = None) -> None:
        self.digest = digest
        self.source = source
        self._name = f"{ref} ({digest[:12]})" if ref else digest[:12]
        self._is_whole_file = not isinstance(stream, ExactStream)
        self._stream = stream if isinstance(stream, ExactStream) else _decoded(stream, self)
        most = _MAX_LISTING_BYTES if ref is None else min(_MAX_LISTING_BYTES, (ref.files + 1) * _MAX_ROW_BYTES)
        self.listing = self._read_listing(most)
        self.entries, self.placeholders, _ = parse_listing(self.listing)
        if ref is not None:
            self._check_bounds(ref)

    def check(self) -> None:
        """Read all files and write none.

        Raises:
            PackFormatError: as for `extract`.
        """
        for entry in self.entries:
            self.expect_header(entry)
            if entry.size:
                self._verified(entry, _ignore)
        self.expect_end()

    def members(self) -> Iterator[bytes | memoryview]:
        """Yield all bytes of the files as they stand in a tar archive, each valid until the next is asked for.

        Raises:
            PackFormatError: as for `extract`; only the end of the iteration says that all was right.
        """
        for entry in self.entries:
            self.expect_header(entry)
            yield member_header(entry)
            if entry.size:
                yield from self._pieces(entry)
                yield padding(entry.size)
        self.expect_end()

    def extract(self, folder: int, *, read_only: bool, wanted: Callable[[Entry], bool] | None = None) -> None:
        """Write the entries below a folder.

        Args:
            folder: descriptor of a folder that nobody else writes to.
            read_only: whether the files lose their write permission.
            wanted: asked for each entry whether it is to be written; all are verified.

        Raises:
            PackFormatError: the file is truncated or has bytes that do not belong there.
            DigestMismatchError: the content of a file is not what the entry list says.
            OSError: the disk refused; what was written so far stays, for the caller to remove.
        """
        mask = 0o555 if read_only else 0o777
        with FolderStack(folder) as folders:
            for entry in self.entries:
                self.expect_header(entry)
                if wanted is None or wanted(entry):
                    parent, name = folders.enter(entry.path)
                    self._write(entry, parent, name, mask)
                elif entry.size:
                    self._verified(entry, _ignore)
        self.expect_end()

    def _write(self, entry: Entry, parent: int, name: str, mask: int) -> None:
        if entry.mode == LINK:
            os.symlink(entry.target, name, dir_fd=parent)
            return
        if entry.mode == FOLDER:
            os.mkdir(name, 0o755, dir_fd=parent)
            return
        permissions = (0o755 if entry.mode == EXECUTABLE else 0o644) & mask
        descriptor = os.open(name, _CREATE, permissions, dir_fd=parent)
        try:
            self._verified(entry, _FileSink(descriptor))
        finally:
            os.close(descriptor)

    def expect_header(self, entry: Entry) -> None:
        """Take the header of an entry from the stream; anything else there is tampering."""
        expected = member_header(entry)
        if self._stream.take(len(expected)) != expected:
            raise DigestMismatchError(self._name, self.source, f"header of {entry.path!r} differs")

    def expect_end(self) -> None:
        """Make sure that nothing follows the last entry."""
        if self._is_whole_file and not self._stream.at_end():
            raise PackFormatError(f"layer {self._name} from {self.source} goes on after its last entry")

    def truncated(self) -> PackFormatError:
        """Return the error for a stream that ends too early."""
        return PackFormatError(f"layer {self._name} from {self.source} is truncated", "fetch it again")

    def damaged(self, error: Exception) -> PackFormatError:
        """Return the error for a stream that is no zstd."""
        return PackFormatError(f"layer {self._name} from {self.source} cannot be decoded: {error}", "fetch it again")

    def _verified(self, entry: Entry, sink: _Sink) -> None:
        """Pass the content of a file on to the sink and compare its digest."""
        if entry.size > _BUFFER_BYTES:
            for piece in self._pieces(entry):
                sink(piece)
            return
        data = self._stream.take(entry.size)
        met = hashlib.sha256(data).hexdigest()
        sink(data)
        self._check_end(entry, met)

    def _pieces(self, entry: Entry) -> Iterator[memoryview]:
        digest = hashlib.sha256()
        for piece in self._stream.pieces(entry.size):
            digest.update(piece)
            yield piece
        self._check_end(entry, digest.hexdigest())

    def _check_end(self, entry: Entry, met: str) -> None:
        if met != entry.sha256:
            raise DigestMismatchError(self._name, self.source, f"content of {entry.path!r} differs")
        fill = padding(entry.size)
        if fill and self._stream.take(len(fill)) != fill:
            raise DigestMismatchError(self._name, self.source, f"padding of {entry.path!r} differs")

    def _read_listing(self, most: int) -> bytes:
        header = bytes(self._stream.take(BLOCK_BYTES))
        try:
            size = int(header[124:135], 8)
        except ValueError:
            size = -1
        expected = member_header(list_member(self.digest, size)) if 0 <= size <= most else b""
        if header != expected:
            raise PackFormatError(f"{self.source} does not begin as layer {self._name} does")
        listing = b"".join(bytes(piece) for piece in self._stream.pieces(size))
        if hashlib.sha256(listing).hexdigest() != self.digest:
            raise DigestMismatchError(self._name, self.source, "its entry list has another digest")
        fill = padding(size)
        if self._stream.take(len(fill)) != fill:
            raise DigestMismatchError(self._name, self.source, "padding of its entry list differs")
        return listing

    def _check_bounds(self, ref: LayerRef) -> None:
        size = sum(entry.size for entry in self.entries)
        if (size, len(self.entries)) != (ref.size_bytes, ref.files):
            raise DigestMismatchError(
                self._name,
                self.source,
                f"{len(self.entries)} entries of {size} bytes met, {ref.files} of {ref.size_bytes} bytes declared",
            )


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Sink(Protocol):
    def __call__(self, data: bytes | memoryview) -> None: ...


def _ignore(data: bytes | memoryview) -> None:
    pass


class _FileSink:
    """Writes all of what it is given to a descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, data: bytes | memoryview) -> None:
        written = os.write(self._descriptor, data)
        while written < len(data):
            data = data[written:]
            written = os.write(self._descriptor, data)


def _decoded(stream: Readable, reader: LayerReader) -> ExactStream:
    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    # The stub wants a file object, the implementation only its read().
    source = decoder.stream_reader(stream, read_size=1 << 18, read_across_frames=True)  # type: ignore[arg-type]

    def readinto(view: memoryview) -> int:
        try:
            return source.readinto(view)
        except zstandard.ZstdError as error:
            raise reader.damaged(error) from error

    return ExactStream(readinto, reader.truncated)


class ExactStream:
    """Decoded bytes, taken in exact amounts.

    Args:
        readinto: decodes some bytes into a buffer and returns how many; 0 at the end.
        truncated: makes the error for bytes that end too early.
    """

    def __init__(self, readinto: Callable[[memoryview], int], truncated: Callable[[], PackFormatError]) -> None:
        self._readinto = readinto
        self._truncated = truncated
        # Memory that comes as it is used: most layers are smaller, and a bytearray is written to all over at once.
        self._buffer = mmap.mmap(-1, 2 * _BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def take(self, size: int) -> memoryview:
        """Return exactly `size` bytes, at most one buffer; they are valid until the next call."""
        if self._end - self._start < size:
            self._fill(size)
        start = self._start
        self._start = start + size
        return self._view[start : start + size]

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes, a buffer at most at a time, each valid until the next is asked for."""
        while size:
            piece = self.take(min(size, _BUFFER_BYTES))
            size -= len(piece)
            yield piece

    def at_end(self) -> bool:
        """Tell whether there is nothing more."""
        return self._start == self._end and self._more(0) == 0

    def _fill(self, size: int) -> None:
        held = self._end - self._start
        self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held
        while self._end < size:
            count = self._more(self._end)
            if not count:
                raise self._truncated()
            self._end += count

    def _more(self, position: int) -> int:
        return self._readinto(self._view[position : position + _BUFFER_BYTES])


class FolderStack:
    """Open descriptors of the folders from the root to the present one; sorted entries open each about once."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: list[str] = []
        self._descriptors: list[int] = []
        self._parent = ""
        self._made: set[str] = set()

    def __enter__(self) -> FolderStack:
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave_to(0)

    def enter(self, path: str) -> tuple[int, str]:
        """Return the descriptor of the path's folder, made where it is not there yet, and the last part."""
        parent, _, name = path.rpartition("/")
        if parent != self._parent:
            self._change_to(parent)
        return (self._descriptors[-1] if self._descriptors else self._root), name

    def _change_to(self, parent: str) -> None:
        parts = parent.split("/") if parent else []
        common = 0
        while common < min(len(parts), len(self._path)) and parts[common] == self._path[common]:
            common += 1
        self._leave_to(common)
        for part in parts[common:]:
            self._push(part)
        self._parent = parent

    def _push(self, part: str) -> None:
        here = self._descriptors[-1] if self._descriptors else self._root
        path = "/".join([*self._path, part])
        if path not in self._made:
            self._made.add(path)
            try:
                os.mkdir(part, 0o755, dir_fd=here)
            except FileExistsError:
                pass  # made for another layer; were it anything but a folder, opening it would fail
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptors.append(os.open(part, flags, dir_fd=here))
        self._path.append(part)

    def _leave_to(self, depth: int) -> None:
        while len(self._descriptors) > depth:
            os.close(self._descriptors.pop())
            self._path.pop()
        self._parent = "/".join(self._path)
