"""Archives that other tools made of an environment (tar, however compressed, or zip), unpacked by our own rules.

There is no manifest to compare with, so the rules for layers are applied to what is met: nothing is written outside of
the folder or through a link, nothing twice; devices, fifos, setuid bits and links that lead out are refused. Python's
modules read the headers; the files are made here, relative to open folders.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, BinaryIO, NamedTuple

import zstandard

from envpack.errors import PackFormatError, UsageError
from envpack.pack.formats import magic
from envpack.pack.layer.entries import EXECUTABLE, FILE, FOLDER, LINK, Entry, check_entries
from envpack.pack.layer.reader import FolderStack
from envpack.pack.layer.tarformat import END_OF_ARCHIVE

_CHUNK_BYTES = 1 << 20
_MAX_ENTRIES = 5_000_000
# Of names and other attributes, for one member.
_MAX_ATTRIBUTE_BYTES = 1 << 20
# A file of zeros has a thousand; an environment about four.
_MAX_RATIO = 200
_ALWAYS_ALLOWED_BYTES = 1 << 30
_SPECIAL = stat.S_ISUID | stat.S_ISGID
# A virtual environment leads to the interpreter of the machine that it was made on.
_INTERPRETER = re.compile(r"(?:.*/)?bin/(?:python|pypy)[\d.]*")
# venv-pack adds it twice; it is not taken over.
_TWICE = "pyvenv.cfg"
_NO_DIGEST = "0" * 64
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_DECODERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    magic.GZIP: lambda stream: gzip.GzipFile(fileobj=stream),
    magic.BZIP2: bz2.BZ2File,
    magic.XZ: lzma.LZMAFile,
    magic.ZSTD: lambda stream: zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True),
}


class _Member(NamedTuple):
    path: str
    mode: int
    target: str = ""
    content: IO[bytes] | None = None
    same_as: str = ""


def extract(file: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Unpack an archive.

    Args:
        file: the archive.
        folder: an empty folder that nobody else writes to.

    Raises:
        UsageError: there is no such file.
        PackFormatError: it is truncated or damaged, or holds what is not safe; the message names it.
        OSError: the disk refused.
    """
    extraction = _Extraction(os.fspath(folder))
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open(file, "rb"))
        except OSError as error:
            raise UsageError(f"cannot read archive {os.fspath(file)!r}: {error.strerror}") from error
        folders = stack.enter_context(extraction.folders())
        members = _members(stream, os.fspath(file))
        while True:
            with _reading(file):
                member = next(members, None)
            if member is None:
                break
            extraction.add(member, folders, file)
    extraction.check()


class _Extraction:
    """What was written so far."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}

    @contextmanager
    def folders(self) -> Iterator[FolderStack]:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with FolderStack(descriptor) as folders:
                yield folders
        finally:
            os.close(descriptor)

    def add(self, member: _Member, folders: FolderStack, source: str | os.PathLike[str]) -> None:
        path = member.path
        known = self._entries.get(path)
        if known is not None and path.rpartition("/")[2] == _TWICE:
            return
        if known is not None and (known.mode, member.mode) != (FOLDER, FOLDER):
            raise PackFormatError(f"archive {os.fspath(source)!r} holds {path!r} twice")
        if len(self._entries) >= _MAX_ENTRIES:
            raise PackFormatError(f"archive {os.fspath(source)!r} holds more than {_MAX_ENTRIES} files")
        entry = Entry(path, member.mode, 0, _NO_DIGEST if member.content or member.same_as else "", member.target)
        # Judged alone before anything is made, and with all others at the end.
        check_entries([entry])
        self._entries[path] = entry
        try:
            self._make(member, *folders.enter(path), source)
        except (NotADirectoryError, FileExistsError) as error:
            raise PackFormatError(f"a file or link is used as a folder: {path!r}, or one above") from error

    def _make(self, member: _Member, parent: int, name: str, source: str | os.PathLike[str]) -> None:
        if member.mode == FOLDER:
            if not self._is_folder(name, parent):
                os.mkdir(name, 0o755, dir_fd=parent)
        elif member.mode == LINK:
            os.symlink(member.target, name, dir_fd=parent)
        elif member.same_as:
            self._link(member, name, parent)
        elif member.content is not None:
            self._write(member.content, name, parent, 0o755 if member.mode == EXECUTABLE else 0o644, source)

    def check(self) -> None:
        check_entries(sorted(self._entries.values()), case_matters=True)

    def _is_folder(self, name: str, parent: int) -> bool:
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _link(self, member: _Member, name: str, parent: int) -> None:
        """Make another name of a file that came before: its parents are folders that were made here."""
        known = self._entries.get(member.same_as) if member.same_as != member.path else None
        if known is None or known.mode not in (FILE, EXECUTABLE):
            raise PackFormatError(f"link to what is no file of the archive: {member.path!r} to {member.same_as!r}")
        self._entries[member.path] = known._replace(path=member.path)
        os.link(f"{self._folder}/{member.same_as}", name, dst_dir_fd=parent, follow_symlinks=False)

    def _write(self, content: IO[bytes], name: str, parent: int, mode: int, source: str | os.PathLike[str]) -> None:
        with open(os.open(name, _CREATE, mode, dir_fd=parent), "wb", buffering=0) as out:
            while True:
                with _reading(source):
                    data = content.read(_CHUNK_BYTES)
                if not data:
                    return
                while data:
                    data = data[out.write(data) :]


def _members(stream: BinaryIO, source: str) -> Iterator[_Member]:
    begin = stream.read(len(max(_DECODERS, key=len)))
    stream.seek(0)
    limit = _ALWAYS_ALLOWED_BYTES + _MAX_RATIO * os.fstat(stream.fileno()).st_size
    if begin.startswith(magic.ZIP):
        yield from _zip_members(stream, limit)
        return
    decoder = next((decoder for start, decoder in _DECODERS.items() if begin.startswith(start)), None)
    yield from _tar_members(_Bounded(decoder(stream) if decoder else stream, limit), source)


class _Bounded:
    """Gives the bytes of a decoder up to a limit."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self._tail = b""

    def ends_in_zeros(self) -> bool:
        """Read what is left, and tell whether all ends as a tar archive does; one that was cut short does not."""
        while self.read(_CHUNK_BYTES):
            pass
        return self._tail == END_OF_ARCHIVE

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self._tail = (self._tail + data[-len(END_OF_ARCHIVE) :])[-len(END_OF_ARCHIVE) :]
        self._left -= len(data)
        if self._left < 0:
            raise PackFormatError(f"archive unpacks to more than {_MAX_RATIO} times its size")
        return data


class _Header(tarfile.TarInfo):
    """A header whose attributes are of a sane size: they are read into memory whole."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        is_attribute = header.type not in (*tarfile.REGULAR_TYPES, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
        if is_attribute and header.size > _MAX_ATTRIBUTE_BYTES:
            raise PackFormatError(
                f"{header.size} bytes of attributes of a member, at most {_MAX_ATTRIBUTE_BYTES} taken"
            )
        return header


def _tar_members(stream: _Bounded, source: str) -> Iterator[_Member]:
    # As a stream: nothing in it can lead the reader back.
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:  # type: ignore[call-overload]
        for header in archive:
            # Forgotten at once: an archive keeps all headers that it has met.
            archive.members = []
            path = _plain_path(header.name)
            if header.mode & _SPECIAL:
                raise PackFormatError(f"setuid or setgid bit refused: {path!r} in archive {source!r}")
            if not path or (header.issym() and header.linkname.startswith("/") and _INTERPRETER.fullmatch(path)):
                continue
            if header.issym():
                yield _Member(path, LINK, _plain_path(header.linkname))
            elif header.islnk():
                yield _Member(path, FILE, same_as=_plain_path(header.linkname))
            elif header.isdir():
                yield _Member(path, FOLDER)
            elif header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not header.issparse():
                yield _Member(path, _file_mode(header.mode), content=archive.extractfile(header))
            else:
                raise PackFormatError(f"neither file, folder nor link: {path!r} in archive {source!r}")
    if not stream.ends_in_zeros():
        raise PackFormatError(f"archive {source!r} is truncated", "fetch it again")


def _zip_members(stream: BinaryIO, limit: int) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            path, mode = _plain_path(info.filename), info.external_attr >> 16
            limit -= info.file_size
            if limit < 0:
                raise PackFormatError(f"archive unpacks to more than {_MAX_RATIO} times its size")
            if mode & _SPECIAL or stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise PackFormatError(f"neither file, folder nor link, or with a setuid bit: {path!r}")
            if info.is_dir():
                yield from [_Member(path, FOLDER)] if path else []
                continue
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    target = content.read(_CHUNK_BYTES).decode()
                    if not (target.startswith("/") and _INTERPRETER.fullmatch(path)):
                        yield _Member(path, LINK, _plain_path(target))
                else:
                    yield _Member(path, _file_mode(mode), content=content)


def _file_mode(mode: int) -> int:
    return EXECUTABLE if mode & 0o100 else FILE


def _plain_path(path: str) -> str:
    """Return a path without parts that say nothing; others that are not plain are for the rules to refuse."""
    start = "/" if path.startswith("/") else ""
    return start + "/".join(part for part in path.split("/") if part not in ("", "."))


@contextmanager
def _reading(source: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise PackFormatError(f"archive {os.fspath(source)!r} is damaged: {error}", "fetch it again") from error
    except (EOFError, OSError, UnicodeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise PackFormatError(f"archive {os.fspath(source)!r} cannot be read: {error}", "fetch it again") from error
