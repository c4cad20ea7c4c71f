"""The bytes of a plain tar archive (POSIX ustar, with pax records for what ustar cannot say).

Pure. A header is a function of its entry alone: no time, no owner. The reader of layers therefore parses no tar; it
computes the header that must come and compares.
"""

from __future__ import annotations

from envpack.pack.layer.entries import EXECUTABLE, FOLDER, LINK, Entry

BLOCK_BYTES = 512
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

_NO_OWNER = 2 * b"0000000\0"
_NO_TIME = b"00000000000\0"
_MAGIC = b"ustar\0" + b"00"
_ZEROS = bytes(BLOCK_BYTES)
_MAX_OCTAL_SIZE = 8**11 - 1
_PAX_NAME = b".envpack/pax"


def member_header(entry: Entry) -> bytes:
    """Return all bytes that stand before the content of an entry: one header, or pax records and a header."""
    name = entry.path.encode()
    target = entry.target.encode()
    if entry.mode == FOLDER:
        name += b"/"
    prefix, base = _split(name)
    size = entry.size if entry.size <= _MAX_OCTAL_SIZE else 0
    kind = b"5" if entry.mode == FOLDER else b"2" if entry.mode == LINK else b"0"
    mode = b"0000755\0" if entry.mode in (EXECUTABLE, FOLDER) else b"0000777\0" if kind == b"2" else b"0000644\0"
    header = _ustar(base[:100], mode, size, kind, target[:100], prefix)
    records = b""
    if len(base) > 100:
        records += _record(b"path", name)
    if len(target) > 100:
        records += _record(b"linkpath", target)
    if size != entry.size:
        records += _record(b"size", b"%d" % entry.size)
    if not records:
        return header
    return _ustar(_PAX_NAME, b"0000644\0", len(records), b"x", b"", b"") + records + padding(len(records)) + header


def padding(size: int) -> bytes:
    """Return the zeros that fill content of `size` bytes up to a whole block."""
    return _ZEROS[: -size % BLOCK_BYTES]


def _ustar(name: bytes, mode: bytes, size: int, kind: bytes, target: bytes, prefix: bytes) -> bytes:
    before = name.ljust(100, b"\0") + mode + _NO_OWNER + b"%011o\0" % size + _NO_TIME
    after = kind + target.ljust(100, b"\0") + _MAGIC.ljust(88, b"\0") + prefix.ljust(167, b"\0")
    # The checksum is taken with eight spaces in its own place.
    return before + b"%06o\0 " % (sum(before) + 256 + sum(after)) + after


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Split a name into the two fields that ustar has for it; an over-long name goes to the second, for pax to say."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", max(0, len(name) - 101))
    if 0 < cut <= 155 and cut < len(name) - 1:
        return name[:cut], name[cut + 1 :]
    return b"", name


def _record(key: bytes, value: bytes) -> bytes:
    """Return one pax record; the number in front counts the whole record, its own digits included."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest
