"""A plain archive of an environment, for machines that have `tar` and a shell and need not have envpack.

```
 .envpack/manifest.json        format, schema, id, manifest, list of the last part
 .envpack/layers/DIGEST.json   entry list of the first layer, then its files; the same for each layer
 bin/activate, ...             envpack.pack.formats.activation
```
The layers are those of a pack, not compressed one by one but with everything else, by gzip. So what is verified when a
pack is read is verified here, too, and a store that takes in such an archive gets layers of the same names. Where two
layers hold the same file, the archive has it twice, and `tar` writes it twice.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from envpack.errors import EnvpackError, PackFormatError
from envpack.pack.formats.activation import FrameFile, frame
from envpack.pack.formats.gzipstream import GzipReader, GzipWriter
from envpack.pack.layer.claims import Claims
from envpack.pack.layer.entries import FILE, FOLDER, RESERVED, Entry, Listing, parse_listing
from envpack.pack.layer.reader import ExactStream, LayerReader
from envpack.pack.layer.tarformat import BLOCK_BYTES, END_OF_ARCHIVE, member_header, padding
from envpack.pack.layer.writer import layer_frames
from envpack.pack.manifest import LayerRef, Manifest, canonical_json

FORMAT = "envpack-plain"
SCHEMA = 1

_INDEX = f"{RESERVED}/manifest.json"
_MAX_INDEX_BYTES = 1 << 26


def write_plain(out: BinaryIO, manifest: Manifest, blobs: Sequence[Path]) -> None:
    """Write a plain archive.

    Args:
        out: receives it.
        manifest: the environment.
        blobs: the layer files, in the order of the manifest's layers.

    Raises:
        LayerConflictError: two layers hold the same path with different content.
        PackFormatError: a layer file is damaged.
    """
    listings = [_verified(ref, blob) for ref, blob in zip(manifest.layers, blobs, strict=True)]
    last = frame(manifest, listings)
    claims = Claims(manifest, (file.entry.path for file in last if file.entry.mode != FOLDER))
    for ref, listing in zip(manifest.layers, listings, strict=True):
        for entry in listing.entries:
            claims.claim(entry, ref)
    index = _index_bytes(manifest, [file.entry for file in last])
    with GzipWriter(out) as archive:
        archive.write(_member(FrameFile(_index_entry(index), index)))
        for blob in blobs:
            for piece in _decoded(blob):
                archive.write(piece)
        for file in last:
            archive.write(_member(file))
        archive.write(END_OF_ARCHIVE)


def is_plain(begin: bytes) -> bool:
    """Tell whether a file that begins so is such an archive.

    Args:
        begin: some thousand bytes.
    """
    try:
        return zlib.decompressobj(31).decompress(begin, BLOCK_BYTES).startswith(_INDEX.encode() + b"\0")
    except zlib.error:
        return False


class PlainFile:
    """A plain archive that is read from front to back.

    Args:
        stream: the file, from its beginning.
        source: its path, for messages.

    Attributes:
        manifest: the environment.
        sizes: 0 for each layer: none is compressed by itself.

    Raises:
        PackFormatError: it is no such archive, is truncated or damaged.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._source = source
        decoder = GzipReader(stream, source)
        self._bytes = ExactStream(decoder.readinto, decoder.truncated)
        self.manifest, self._frame = self._read_index()
        self.sizes = (0,) * len(self.manifest.layers)

    def readers(self) -> Iterator[tuple[LayerRef, LayerReader]]:
        """Yield each layer, to be read before the next is asked for.

        Raises:
            PackFormatError: the archive is truncated or damaged.
        """
        for ref in self.manifest.layers:
            yield ref, LayerReader(self._bytes, ref.digest, self._source, ref)
        for entry in self._frame:
            self._check(entry)
        if self._bytes.take(len(END_OF_ARCHIVE)) != END_OF_ARCHIVE or not self._bytes.at_end():
            raise PackFormatError(f"archive {self._source!r} goes on after its end")

    def layer_files(self) -> Iterator[tuple[LayerRef, Iterator[bytes]]]:
        """Yield the bytes of each layer file; what is not taken before the next is asked for is verified.

        Raises:
            PackFormatError: the archive is truncated or damaged.
        """
        for ref, reader in self.readers():
            chunks = layer_frames(ref.digest, reader.listing, reader.members())
            taken = _Taken(chunks)
            yield ref, taken
            if not taken.is_begun:
                reader.check()

    def _read_index(self) -> tuple[Manifest, list[Entry]]:
        header = bytes(self._bytes.take(BLOCK_BYTES))
        size = _size(header)
        if size is None or member_header(Entry(_INDEX, FILE, size, "", "")) != header:
            raise PackFormatError(
                f"not a pack: {self._source!r} does not begin with {_INDEX!r}", "make one with envpack pack -o"
            )
        data = b"".join(bytes(piece) for piece in self._bytes.pieces(size))
        fill = padding(size)
        if bytes(self._bytes.take(len(fill))) != fill:
            raise PackFormatError(f"archive {self._source!r} is damaged behind its manifest", "fetch it again")
        return _parse_index(data, self._source)

    def _check(self, entry: Entry) -> None:
        header = member_header(entry)
        if self._bytes.take(len(header)) != header:
            raise self._damaged(entry)
        digest = hashlib.sha256()
        for piece in self._bytes.pieces(entry.size):
            digest.update(piece)
        fill = padding(entry.size)
        if (entry.sha256 and digest.hexdigest() != entry.sha256) or self._bytes.take(len(fill)) != fill:
            raise self._damaged(entry)

    def _damaged(self, entry: Entry) -> PackFormatError:
        return PackFormatError(f"archive {self._source!r} is damaged: {entry.path!r} differs", "fetch it again")


class _Taken:
    """An iterator that knows whether anybody has asked it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.is_begun = False

    def __iter__(self) -> _Taken:
        return self

    def __next__(self) -> bytes:
        self.is_begun = True
        return next(self._chunks)


def _verified(ref: LayerRef, blob: Path) -> Listing:
    """Return what a layer is, after all of its file was read: nothing damaged is exported."""
    with open(blob, "rb") as stream:
        reader = LayerReader(stream, ref.digest, str(blob), ref)
        reader.check()
        return parse_listing(reader.listing)


def _decoded(blob: Path) -> Iterator[bytes]:
    with open(blob, "rb") as stream:
        decoder = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        while piece := decoder.read(1 << 20):
            yield piece


def _member(file: FrameFile) -> bytes:
    return member_header(file.entry) + file.content + padding(len(file.content))


def _index_entry(index: bytes) -> Entry:
    return Entry(_INDEX, FILE, len(index), "", "")


def _index_bytes(manifest: Manifest, entries: Sequence[Entry]) -> bytes:
    return canonical_json(
        {
            "format": FORMAT,
            "schema": SCHEMA,
            "id": manifest.id,
            "manifest": manifest.to_dict(),
            "frame": [list(entry) for entry in entries],
        }
    )


def _size(header: bytes) -> int | None:
    try:
        size = int(header[124:135], 8)
    except ValueError:
        return None
    return size if 0 <= size <= _MAX_INDEX_BYTES else None


def _parse_index(data: bytes, source: str) -> tuple[Manifest, list[Entry]]:
    try:
        value: Any = json.loads(data)
        manifest = Manifest.from_dict(value["manifest"])
        entries = [Entry(*item) for item in value["frame"]]
        known = value["format"] == FORMAT and value["schema"] == SCHEMA
        # Written again it must give the same bytes: that covers the id and every field that is not known here.
        whole = known and _index_bytes(manifest, entries) == data
        for entry in entries:
            whole = whole and 0 <= entry.size <= _MAX_INDEX_BYTES and bool(member_header(entry))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, EnvpackError) as error:
        raise PackFormatError(f"manifest of archive {source!r} is damaged: {error}", "fetch it again") from error
    if not whole:
        raise PackFormatError(
            f"manifest of archive {source!r} is damaged or of another version than schema {SCHEMA}", "fetch it again"
        )
    return manifest, entries
