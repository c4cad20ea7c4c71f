"""A file that holds a whole environment, opened as what it is: its first bytes tell, not its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

from envpack.errors import UsageError
from envpack.pack.formats.gzipstream import MAGIC as GZIP_MAGIC
from envpack.pack.formats.packfile import PackFile
from envpack.pack.formats.plainfile import PlainFile
from envpack.pack.layer.reader import LayerReader
from envpack.pack.manifest import LayerRef, Manifest


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
    begin = stream.read(len(GZIP_MAGIC))
    stream.seek(0)
    return PlainFile(stream, str(file)) if begin == GZIP_MAGIC else PackFile(stream, str(file))
