"""One file that holds a whole environment: an index, then the layer files as they are.

```
 zstd skippable frame    JSON: format, schema, id, manifest, size of each layer file
 layer file, layer file, ...
 zstd frame              end of the tar archive
```
Zstd frames may stand one behind the other, and a layer file is a piece of a tar archive; so the whole is one `.tar.zst`
that `tar --zstd -xf` opens, while export and import only copy bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from envpack.errors import EnvpackError, PackFormatError
from envpack.pack.layer.entries import MAX_SIZE_BYTES
from envpack.pack.layer.reader import ChunkStream, LayerReader
from envpack.pack.layer.tarformat import END_OF_ARCHIVE
from envpack.pack.manifest import LayerRef, Manifest, canonical_json

FORMAT = "envpack-pack"
SCHEMA = 1

_SKIPPABLE_MAGIC = 0x184D2A5E
_HEAD = struct.Struct("<II")
MAGIC = struct.pack("<I", _SKIPPABLE_MAGIC)
_MAX_INDEX_BYTES = 1 << 26
_CHUNK_BYTES = 1 << 20
_END = zstandard.ZstdCompressor(level=1, write_checksum=False).compress(END_OF_ARCHIVE)


@dataclass(frozen=True, slots=True)
class PackIndex:
    """What stands at the beginning of a pack.

    Attributes:
        manifest: the environment.
        sizes: size of each layer file in bytes, in the order of the manifest's layers.
    """

    manifest: Manifest
    sizes: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Return the index as it stands in the file."""
        value = {
            "format": FORMAT,
            "schema": SCHEMA,
            "id": self.manifest.id,
            "manifest": self.manifest.to_dict(),
            "sizes": list(self.sizes),
        }
        data = canonical_json(value)
        return _HEAD.pack(_SKIPPABLE_MAGIC, len(data)) + data


def write_pack(out: BinaryIO, manifest: Manifest, blobs: Sequence[Path]) -> None:
    """Write a pack.

    Args:
        out: receives it.
        manifest: the environment.
        blobs: the layer files, in the order of the manifest's layers.
    """
    index = PackIndex(manifest, tuple(blob.stat().st_size for blob in blobs))
    out.write(index.to_bytes())
    out.flush()
    for blob in blobs:
        _copy(blob, out)
    out.write(_END)


class PackFile:
    """A pack that is read from front to back.

    Args:
        stream: the file, from its beginning.
        source: its path, for messages.

    Attributes:
        manifest: the environment.
        sizes: size of each layer file in bytes.

    Raises:
        PackFormatError: it is no pack, is truncated, or its index is damaged.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._stream = stream
        self._source = source
        index = read_index(stream, source)
        self.manifest = index.manifest
        self.sizes = index.sizes

    def readers(self) -> Iterator[tuple[LayerRef, LayerReader]]:
        """Yield each layer, to be read before the next is asked for.

        Raises:
            PackFormatError: the pack is truncated or damaged.
        """
        for ref, chunks in self.layer_files():
            yield ref, LayerReader(ChunkStream(chunks), ref.digest, self._source, ref)

    def layer_files(self) -> Iterator[tuple[LayerRef, Iterator[bytes]]]:
        """Yield the bytes of each layer file; what is not taken before the next is asked for is passed over.

        Raises:
            PackFormatError: the pack is truncated or damaged.
        """
        position = self._stream.tell()
        for ref, size in zip(self.manifest.layers, self.sizes, strict=True):
            self._stream.seek(position)
            yield ref, layer_chunks(self._stream, size, self._source)
            position += size
        self._stream.seek(position)
        read_end(self._stream, self._source)


def read_index(stream: BinaryIO, source: str) -> PackIndex:
    """Read the index of a pack and leave the stream at the first layer file.

    Raises:
        PackFormatError: the file is no pack, is truncated, or its index is damaged.
    """
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise PackFormatError(f"not a pack: {source!r} has {len(head)} bytes")
    magic, size = _HEAD.unpack(head)
    if magic != _SKIPPABLE_MAGIC:
        raise PackFormatError(f"not a pack: {source!r} begins with {head[:4].hex()}", "make one with envpack pack -o")
    if size > _MAX_INDEX_BYTES:
        raise PackFormatError(f"index of {source!r} is damaged: {size} bytes, at most {_MAX_INDEX_BYTES} expected")
    data = stream.read(size)
    if len(data) < size:
        raise PackFormatError(f"pack {source!r} is truncated: its index ends after {len(data)} of {size} bytes")
    return _parse_index(data, head, source)


def layer_chunks(stream: BinaryIO, size: int, source: str) -> Iterator[bytes]:
    """Yield the bytes of the next layer file of a pack.

    Raises:
        PackFormatError: the pack ends before.
    """
    while size:
        data = stream.read(min(size, _CHUNK_BYTES))
        if not data:
            raise PackFormatError(
                f"pack {source!r} is truncated: {size} bytes of a layer are missing", "fetch it again"
            )
        size -= len(data)
        yield data


def read_end(stream: BinaryIO, source: str) -> None:
    """Make sure that the pack ends as packs do.

    Raises:
        PackFormatError: it is truncated or goes on.
    """
    end = stream.read(_CHUNK_BYTES)
    if end != _END and not _is_end(end):
        raise PackFormatError(f"pack {source!r} is truncated or damaged at its end: {len(end)} bytes met")


def _is_end(data: bytes) -> bool:
    """Accept the end as another version of the zstd library may have compressed it."""
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=len(END_OF_ARCHIVE)) == END_OF_ARCHIVE
    except zstandard.ZstdError:
        return False


def _parse_index(data: bytes, head: bytes, source: str) -> PackIndex:
    try:
        value: Any = json.loads(data)
        index = PackIndex(Manifest.from_dict(value["manifest"]), tuple(value["sizes"]))
        known = value["format"] == FORMAT and value["schema"] == SCHEMA
        # Written again it must give the same bytes: that covers the id and every field that is not known here.
        whole = known and index.to_bytes() == head + data
    except (ValueError, TypeError, KeyError, RecursionError, EnvpackError) as error:
        raise PackFormatError(f"index of pack {source!r} is damaged: {error}", "fetch it again") from error
    # All together, too, must be a place in a file.
    sane = all(type(size) is int and size > 0 for size in index.sizes) and sum(index.sizes) <= MAX_SIZE_BYTES
    if not whole or not sane or len(index.sizes) != len(index.manifest.layers):
        raise PackFormatError(
            f"index of pack {source!r} is damaged or of another version than schema {SCHEMA}", "fetch it again"
        )
    return index


def _copy(blob: Path, out: BinaryIO) -> None:
    with open(blob, "rb", buffering=0) as stream:
        left = os.fstat(stream.fileno()).st_size
        while left:
            left -= os.sendfile(out.fileno(), stream.fileno(), None, left)
    out.seek(0, os.SEEK_END)
