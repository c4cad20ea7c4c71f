"""Layer files and packs as an attacker would write them: changed at any level, with digests made right again.

Each level hands its result to the next: a JSON value becomes the entry list, the list and the contents become the bytes
of an archive, these become zstd frames, and layer files become a pack. `hostile_layer` and `hostile_pack` change one or
more of the levels. The same chance gives the same bytes.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import struct
import sysconfig
import tarfile
from dataclasses import dataclass
from random import Random
from typing import Any

import zstandard

from envpack.pack.formats.packfile import PackIndex
from envpack.pack.layer.entries import EXECUTABLE, FILE, FOLDER, LINK, Entry
from envpack.pack.layer.tarformat import BLOCK_BYTES, END_OF_ARCHIVE, member_header, padding
from envpack.pack.layer.writer import list_member
from envpack.pack.manifest import LayerRef, Manifest, canonical_json
from tests.pack.hostile_lists import (
    LIST_CHANGES,
    ODD_NAMES,
    ODD_SIZES,
    Tree,
    add_file,
    add_placeholder,
    make_tree,
    odd_value,
    sort_rows,
)


@dataclass(frozen=True)
class Layer:
    """A layer file and what its receiver was told of it.

    Attributes:
        archive: the file before it was compressed.
        data: the file.
        digest: the layer that it is said to be.
        ref: what a manifest says about it.
    """

    archive: bytes
    data: bytes
    digest: str
    ref: LayerRef


def hostile_layer(chance: Random, outside: str) -> Layer:
    """Return a layer file that is wrong at no, one or several levels.

    Args:
        chance: decides.
        outside: absolute path of a folder that nothing may be written to.
    """
    tree = make_tree(chance)
    levels = chance.choices(("list", "tar", "zstd", "ref", ""), (6, 3, 2, 1, 0.5), k=chance.choice((1, 1, 1, 2)))
    if "list" in levels:
        for _ in range(chance.choice((1, 1, 2, 4))):
            chance.choice(LIST_CHANGES)(chance, tree, outside)
        sort_rows(chance, tree)
    listing = _listing_bytes(chance, tree.value)
    digest = hashlib.sha256(listing).hexdigest()
    archive, heads = _archive(listing, digest, tree)
    if "tar" in levels:
        for _ in range(chance.choice((1, 1, 3))):
            archive = chance.choice(_TAR_CHANGES)(chance, archive or b"\0", heads)
    data = _compressed(chance, archive, "zstd" in levels)
    if "zstd" in levels:
        for _ in range(chance.choice((0, 1, 1, 3))):
            data = _damaged(chance, data or b"\0")
    return Layer(archive, data, digest, _ref(chance, digest, tree, "ref" in levels))


def hostile_pack(chance: Random, outside: str) -> bytes:
    """Return a pack whose layers, manifest, index or end are wrong."""
    manifest, layers = _environment(chance, outside)
    blobs = [layer.data for layer in layers]
    value = json.loads(PackIndex(manifest, tuple(map(len, blobs))).to_bytes()[8:])
    if chance.random() < 0.5:
        for _ in range(chance.choice((1, 1, 2))):
            chance.choice(_INDEX_CHANGES)(chance, value, outside)
    data = _index_bytes(chance, value) + b"".join(blobs) + zstandard.compress(END_OF_ARCHIVE, 1)
    return _damaged(chance, data) if chance.random() < 0.2 else data


def hostile_plain(chance: Random, outside: str) -> bytes:
    """Return a plain archive whose layers, manifest, index or other files are wrong."""
    manifest, layers = _environment(chance, outside)
    tree = make_tree(chance)
    tree.value = {"entries": tree.entries}
    if chance.random() < 0.2:
        chance.choice(LIST_CHANGES)(chance, tree, outside)
    value: dict[str, Any] = {"format": "envpack-plain", "schema": 1, "id": manifest.id, "manifest": manifest.to_dict()}
    value["sizes"] = []  # what changes an index looks for it
    value["frame"] = tree.value["entries"] if isinstance(tree.value, dict) and "entries" in tree.value else tree.value
    if chance.random() < 0.4:
        chance.choice((_change_index, _change_manifest, _change_layers))(chance, value, outside)
    del value["sizes"]
    index = _plain_index(chance, value)
    head = member_header(Entry(".envpack/manifest.json", FILE, len(index), "", ""))
    frame, heads = _members(tree)
    archive = head + index + padding(len(index)) + b"".join(layer.archive for layer in layers) + frame + END_OF_ARCHIVE
    if chance.random() < 0.3:
        archive = chance.choice(_TAR_CHANGES)(chance, archive, [0, *heads])
    cut = chance.randrange(len(archive) + 1)
    data = b"".join(gzip.compress(piece, 1, mtime=0) for piece in (archive[:cut], archive[cut:]))
    return _damaged(chance, data) if chance.random() < 0.2 else data


def hostile_foreign(chance: Random, outside: str) -> bytes:
    """Return an archive as other tools make them, whose names, links, kinds or headers are wrong."""
    tree = make_tree(chance)
    for _ in range(chance.choice((0, 1, 2, 4))):
        chance.choice(LIST_CHANGES)(chance, tree, outside)
    raw = io.BytesIO()
    form = chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    with tarfile.open(fileobj=raw, mode="w", format=form, errors="surrogateescape") as archive:
        for row in tree.entries:
            if isinstance(row, list) and len(row) == 5 and all(isinstance(row[place], str) for place in (0, 4)):
                _add_foreign(chance, archive, row, tree.contents.get(row[0], b""))
    data = raw.getvalue()
    if chance.random() < 0.3:
        data = chance.choice(_TAR_CHANGES)(chance, data, [0])
    compress = chance.choice((gzip.compress, lzma.compress, bz2.compress, zstandard.compress, bytes))
    return _damaged(chance, compress(data)) if chance.random() < 0.2 else compress(data)


def _add_foreign(chance: Random, archive: tarfile.TarFile, row: list[Any], content: bytes) -> None:
    kinds = {FILE: tarfile.REGTYPE, EXECUTABLE: tarfile.REGTYPE, FOLDER: tarfile.DIRTYPE, LINK: tarfile.SYMTYPE}
    odd = (tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.AREGTYPE)
    member = tarfile.TarInfo(row[0])
    kind = kinds.get(row[1], tarfile.REGTYPE) if isinstance(row[1], int) else tarfile.REGTYPE
    member.type = kind if chance.random() < 0.9 else chance.choice(odd)
    member.linkname = row[4] if chance.random() < 0.9 else chance.choice(("a", "b", "/etc/passwd", "../x"))
    member.mode = chance.choice((0o644, 0o755, 0o700, 0o777) * 5 + (0o4755,))
    member.size = len(content) if member.isreg() else 0
    try:
        archive.addfile(member, io.BytesIO(content))
    except (ValueError, OverflowError):
        pass  # a name that no tar archive can hold


def _environment(chance: Random, outside: str) -> tuple[Manifest, list[Layer]]:
    """Return a manifest and its layers in the order that it brings them into."""
    layers = [_valid_layer(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
    if chance.random() < 0.4:
        layers[0] = hostile_layer(chance, outside)
    refs = tuple(layer.ref for layer in layers)
    brings = chance.random() < 0.8
    manifest = Manifest("3.11", "cpython", "cp311", sysconfig.get_platform(), refs, has_interpreter=brings)
    order = {layer.digest: layer for layer in layers}
    return manifest, [order[ref.digest] for ref in manifest.layers]


def _valid_layer(chance: Random) -> Layer:
    tree = make_tree(chance)
    if chance.random() < 0.8 and not any(row[0].split("/")[0] == "bin" for row in tree.entries):
        add_file(tree, "bin/python", EXECUTABLE, b"#!/bin/sh\n")
        sort_rows(chance, tree, 1.0)
    if chance.random() < 0.3:
        add_placeholder(chance, tree, "")
    listing = canonical_json(tree.value)
    digest = hashlib.sha256(listing).hexdigest()
    archive, _ = _archive(listing, digest, tree)
    return Layer(archive, zstandard.compress(archive, 1), digest, _ref(chance, digest, tree, False))


def _ref(chance: Random, digest: str, tree: Tree, is_wrong: bool) -> LayerRef:
    sizes = [row[2] for row in tree.entries if isinstance(row, list) and len(row) > 2 and type(row[2]) is int]
    size, files = max(0, sum(sizes)), len(tree.entries)
    if is_wrong:
        size, files = chance.choice(((size + 1, files), (size, files + 1), (0, 0), (1 << 60, 1 << 60)))
    return LayerRef(digest, chance.choice(("wheel", "conda")), chance.choice("nm"), "1", size, files)


def _json(value: object) -> bytes:
    """Write what `canonical_json` writes, and what it refuses."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _listing_bytes(chance: Random, value: object) -> bytes:
    data = _json(value)
    if chance.random() > 0.04:
        return data
    return chance.choice((
        data + b"\n", json.dumps(value).encode(), data[:-1], data.replace(b'"schema":', b'"schema":1,"schema":'), b"",
        b"[" * chance.choice((900, 5000)), b"\xef\xbb\xbf" + data, b"\xff" + data, data.replace(b"1", b"1" * 5000),
        data.decode("utf-8", "replace").encode("utf-16"),
    ))  # fmt: skip


# Changes of the archive: headers, records, padding, content.


def _archive(listing: bytes, digest: str, tree: Tree) -> tuple[bytes, list[int]]:
    """Return the bytes of a layer as a tar archive, and where its headers begin."""
    begin = member_header(list_member(digest, len(listing))) + listing + padding(len(listing))
    members, heads = _members(tree)
    return begin + members, [0, *(len(begin) + head for head in heads)]


def _members(tree: Tree) -> tuple[bytes, list[int]]:
    """Return the files of a tree as they stand in a tar archive, and where their headers begin."""
    parts: list[bytes] = []
    heads: list[int] = []
    length = 0
    for row in tree.entries:
        content = tree.contents.get(row[0], b"") if isinstance(row, list) and row and isinstance(row[0], str) else b""
        try:
            header = member_header(Entry(*row))
        except Exception:  # what cannot be written has no header; any block will do
            header = bytes(BLOCK_BYTES)
        heads.append(length)
        parts += [header, content, padding(len(content))]
        length += sum(map(len, parts[-3:]))
    return b"".join(parts), heads


def _flip(chance: Random, data: bytes, heads: list[int]) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _move(chance: Random, data: bytes, heads: list[int]) -> bytes:
    """Remove, double or shift some bytes, whole blocks more often than not."""
    unit = chance.choice((1, BLOCK_BYTES, BLOCK_BYTES))
    start = chance.randrange(len(data) // unit + 1) * unit
    end = start + chance.choice((1, 1, 2, 5)) * unit
    there = chance.randrange(len(data) // unit + 1) * unit
    cut = data[:start] + data[end:]
    return chance.choice(
        (cut, data[:end] + data[start:], cut[:there] + data[start:end] + cut[there:], data[:start] or b"\0")
    )


def _rewrite_field(chance: Random, data: bytes, heads: list[int]) -> bytes:
    """Change a field of a header and make its checksum right again."""
    start = chance.choice(heads)
    header = bytearray(data[start : start + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0"))
    place, size = chance.choice(
        ((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    texts = (
        b"",
        b"../../evil",
        b"/tmp/evil",
        b"7777777",
        b"\x80" + b"\xff" * 10,
        b"77777777777",
        b"-1",
        b" 12 ",
        b"1_2",
    )
    values = (*texts, b"1", b"2", b"3", b"4", b"5", b"6", b"x", b"g", b"L", b"K")
    header[place : place + size] = chance.choice(values)[:size].ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + BLOCK_BYTES :]


def _insert_member(chance: Random, data: bytes, heads: list[int]) -> bytes:
    """Put a member that the list does not name, or records of pax, between two others."""
    start = chance.choice((*heads, len(data)))
    content = chance.choice((b"evil", b"30 path=../../../../tmp/evil\n", b"18 linkpath=/tmp\n", b"99999 size=9\n"))
    member = member_header(Entry("evil", FILE, len(content), "", "")) + content + padding(len(content))
    kind = bytearray(member)
    kind[156:157] = chance.choice((b"0", b"x", b"g", b"L", b"2", b"S"))
    more = chance.choice((bytes(kind), member, bytes(BLOCK_BYTES), END_OF_ARCHIVE))
    return data[:start] + more + data[start:]


_TAR_CHANGES = (_flip, _flip, _move, _move, _rewrite_field, _rewrite_field, _insert_member)


# Changes of the compressed bytes.


def _compressed(chance: Random, archive: bytes, is_odd: bool) -> bytes:
    if not is_odd:
        return zstandard.compress(archive, 1)
    compressor = zstandard.ZstdCompressor(
        level=chance.choice((-5, 1, 3)), write_checksum=chance.random() < 0.5, write_content_size=chance.random() < 0.5
    )
    cuts = sorted(chance.randrange(len(archive) + 1) for _ in range(chance.choice((0, 1, 1, 5))))
    pieces = [archive[start:end] for start, end in zip([0, *cuts], [*cuts, len(archive)], strict=True)]
    between = (b"", b"", struct.pack("<II", 0x184D2A50 + chance.randrange(16), 3) + b"abc", compressor.compress(b""))
    return b"".join(chance.choice(between) + compressor.compress(piece) for piece in pieces) + chance.choice(between)


def _damaged(chance: Random, data: bytes) -> bytes:
    """Change, cut or lengthen bytes; the first ones, where sizes and windows are said, more often than others."""
    place = chance.randrange(len(data)) if chance.random() < 0.6 else min(chance.randrange(20), len(data) - 1)
    flipped = bytes([data[place] ^ 1 << chance.randrange(8)])
    window = b"\x28\xb5\x2f\xfd\x00" + bytes([chance.getrandbits(8)]) + chance.randbytes(8)
    return chance.choice((
        data[:place] + chance.randbytes(1) + data[place + 1 :], data[:place] + flipped + data[place + 1 :],
        data[:place] or b"\0", data + chance.randbytes(9), data + bytes(9), window + data,
        data[:place] + window + data[place:],
        data + data, data[:4] + b"\xff" * 5 + data[9:],
    ))  # fmt: skip


# Changes of a pack's index.


def _change_index(chance: Random, value: Any, outside: str) -> None:
    key = chance.choice(sorted(value))
    value[key] = odd_value(chance, *ODD_NAMES, 2, [1], [-1], [1 << 60], ["1"], [1.0])


def _change_sizes(chance: Random, value: Any, outside: str) -> None:
    sizes = value["sizes"]
    if isinstance(sizes, list) and sizes:
        right = sizes[0] if isinstance(sizes[0], int) else 9
        sizes[chance.randrange(len(sizes))] = odd_value(chance, *ODD_SIZES, right + 1, right - 1)


def _change_manifest(chance: Random, value: Any, outside: str) -> None:
    manifest = value["manifest"]
    if isinstance(manifest, dict) and manifest:
        key = chance.choice((*sorted(manifest), "python", "python"))
        up = f"{outside}/python", "/../../../../evil", f"/../../../..{outside}/evil", "3.11/x", "3", "3.99"
        manifest[key] = odd_value(chance, *ODD_NAMES, *up)


def _change_layers(chance: Random, value: Any, outside: str) -> None:
    manifest = value["manifest"]
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list) or not layers or not isinstance(layers[0], dict):
        return
    layer = layers[0]
    match chance.randrange(4):
        case 0:
            layers.append(dict(layer))
            value["sizes"] = [*value["sizes"], 9] if isinstance(value["sizes"], list) else []
        case 1:
            layers.remove(layer)
        case 2:
            layer[chance.choice(("size_bytes", "files"))] = chance.choice(ODD_SIZES)
        case _:
            layer[chance.choice(sorted(layer))] = odd_value(chance, *ODD_NAMES)


_INDEX_CHANGES = (_change_index, _change_sizes, _change_manifest, _change_manifest, _change_layers, _change_layers)


def _plain_index(chance: Random, value: Any) -> bytes:
    """Return the index of a plain archive, its id made right again."""
    if chance.random() < 0.9:
        value["id"] = hashlib.sha256(_json(value["manifest"])).hexdigest()
    return _json(value) if chance.random() < 0.95 else json.dumps(value).encode()


def _index_bytes(chance: Random, value: Any) -> bytes:
    """Return the index, its id made right again, most often as the one canonical way to write it."""
    if chance.random() < 0.9 and isinstance(value["id"], str) and len(value["id"]) == 64:
        value["id"] = hashlib.sha256(_json(value["manifest"])).hexdigest()
    data = _json(value) if chance.random() < 0.95 else json.dumps(value).encode()
    size = (
        len(data)
        if chance.random() < 0.95
        else chance.choice((0, 1, len(data) - 1, len(data) + 1, 1 << 26, (1 << 32) - 1))
    )
    magic = 0x184D2A5E if chance.random() < 0.97 else chance.choice((0x184D2A50, 0xFD2FB528, 0))
    return struct.pack("<II", magic, size) + data
