"""A file that holds a whole environment, opened as what it is: its first bytes tell, not its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

from envpack.errors import PackFormatError, UsageError
from envpack.pack.formats.magic import GZIP, is_archive
from envpack.pack.formats.packfile import MAGIC as PACK_MAGIC
from envpack.pack.formats.packfile import PackFile
from envpack.pack.formats.plainfile import PlainFile, is_plain
from envpack.pack.layer.reader import LayerReader
from envpack.pack.manifest import LayerRef, Manifest

_BEGIN_BYTES = 4096


class OpenEnvironment(Protocol):
    """A file that holds an environment, read once from front to back by one of its two methods."""

    manifest: Manifest
    sizes: tuple[int, ...]

    def readers(self) -> Iterator[tuple[LayerRef, LayerReader]]:
        """Yield each layer, to be read before the next is asked for."""
        ...

    def layer_files(self) -> Iterator[tuple[LayerRef, Iterator[bytes]]]:
        """Yield the bytes of each layer file; what is not taken before the next is asked for is passed over."""
        ...


def read_begin(file: str | os.PathLike[str]) -> bytes:
    """Return as many bytes of a file as tell what it is.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(file, "rb") as stream:
            return stream.read(_BEGIN_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read pack {os.fspath(file)!r}: {error.strerror}") from error


def is_own(begin: bytes) -> bool:
    """Tell whether a file that begins so is a pack or a plain archive."""
    return begin.startswith(PACK_MAGIC) or is_plain(begin)


def is_foreign(file: str | os.PathLike[str]) -> bool:
    """Tell whether a file is an archive, and none that was written here.

    Raises:
        UsageError: it cannot be read.
    """
    begin = read_begin(file)
    return is_archive(begin) and not is_own(begin)


def open_environment(stack: ExitStack, file: str | os.PathLike[str]) -> OpenEnvironment:
    """Open a pack or a plain archive until the stack ends, and read its manifest.

    Raises:
        UsageError: there is no such file.
        PackFormatError: it is neither, or damaged.
    """
    try:
        stream = open(file, "rb")  # noqa: SIM115 - the caller's stack closes it
    except OSError as error:
        raise UsageError(f"cannot read pack {os.fspath(file)!r}: {error.strerror}") from error
    stack.enter_context(stream)
    begin = stream.read(_BEGIN_BYTES)
    stream.seek(0)
    if is_archive(begin) and not is_own(begin):
        raise PackFormatError(f"not a pack: {str(file)!r} is an archive of another tool", "pack it: envpack pack -o")
    return PlainFile(stream, str(file)) if begin.startswith(GZIP) else PackFile(stream, str(file))
