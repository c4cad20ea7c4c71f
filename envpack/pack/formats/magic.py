"""What files of each kind begin with; cheap, as it is asked of every file that may hold an environment."""

from __future__ import annotations

GZIP = b"\x1f\x8b"
BZIP2 = b"BZh"
XZ = b"\xfd7zXZ\0"
ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = b"PK\x03\x04"

_TAR = b"ustar"
_TAR_OFFSET = 257


def is_archive(begin: bytes) -> bool:
    """Tell whether a file that begins so is what other tools write: tar, compressed or not, or zip.

    Args:
        begin: at least 262 bytes, or the whole file.
    """
    return begin.startswith((GZIP, BZIP2, XZ, ZSTD, ZIP)) or begin[_TAR_OFFSET:].startswith(_TAR)
