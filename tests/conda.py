"""A channel of conda packages on this machine, and real environments that py-rattler makes from it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import files as files_of
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
import zstandard

rattler = pytest.importorskip("rattler")

PYTHON = ".".join(map(str, sys.version_info[:3]))
TAG = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"lib/{TAG}/site-packages"

# As long as those of conda's own build tool.
PLACEHOLDER = "/builds/" + "placehold_" * 24 + "placeho"
assert len(PLACEHOLDER) == 255

# What no test needs of the standard library.
_LEFT_OUT = {
    "__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "tkinter",
    "turtledemo", "dist-packages", "_pyrepl", "curses",
}  # fmt: skip
# What one needs that starts a program, loads a library and reads metadata.
_SMALL = """
 __future__ _aix_support _bootsubprocess _colorize _collections_abc _compat_pickle _compression _opcode_metadata
_osx_support _py_abc _pydecimal _sitebuiltins _strptime _threading_local _weakrefset abc argparse ast base64 bisect
bz2 calendar codecs collections compileall contextlib copy copyreg csv ctypes datetime dis email encodings enum
fnmatch functools genericpath getpass gettext glob hashlib heapq importlib inspect io ipaddress json keyword
lib-dynload linecache locale logging lzma ntpath numbers opcode operator os pathlib pkgutil platform posixpath
py_compile quopri random re reprlib runpy selectors shlex shutil signal site socket sre_compile sre_constants
sre_parse ssl stat string struct subprocess sysconfig tarfile tempfile textwrap threading token tokenize traceback
types typing urllib uu venv warnings weakref zipfile zipimport
"""
_CODECS = {"__init__", "aliases", "ascii", "cp437", "idna", "latin_1", "raw_unicode_escape", "utf_8", "utf_8_sig"}


@dataclass(frozen=True)
class File:
    """One file of a package: its content, or where a link leads."""

    content: bytes = b""
    link: str = ""
    executable: bool = False
    mode: str = ""  # of the placeholder in it


@dataclass(frozen=True)
class Package:
    """A package before it is built; `entry_points` make it a noarch one, whose modules lie in `site-packages`."""

    name: str
    version: str
    files: Mapping[str, File | str]
    depends: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    noarch: bool = False

    def write(self, channel: Path) -> None:
        files = {path: file if isinstance(file, File) else File(file.encode()) for path, file in self.files.items()}
        stem = f"{self.name}-{self.version}-0"
        folder = channel / ("noarch" if self.noarch else "linux-64")
        about = self._about(files)
        with zipfile.ZipFile(folder / f"{stem}.conda", "w") as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            archive.writestr(f"pkg-{stem}.tar.zst", _tar(files))
            archive.writestr(f"info-{stem}.tar.zst", _tar({f"info/{name}": File(text) for name, text in about.items()}))

    def _about(self, files: Mapping[str, File]) -> dict[str, bytes]:
        index: dict[str, object] = {
            "name": self.name,
            "version": self.version,
            "build": "0",
            "build_number": 0,
            "depends": list(self.depends),
            "subdir": "noarch" if self.noarch else "linux-64",
            **({"noarch": "python"} if self.noarch else {}),
        }
        paths = [_path_of(path, file) for path, file in sorted(files.items())]
        about = {
            "index.json": json.dumps(index),
            "files": "".join(f"{path}\n" for path in sorted(files)),
            "paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        }
        if self.noarch:
            noarch = {"type": "python", "entry_points": list(self.entry_points)}
            about["link.json"] = json.dumps({"noarch": noarch, "package_metadata_version": 1})
        return {name: text.encode() for name, text in about.items()}


def _path_of(path: str, file: File) -> dict[str, object]:
    if file.link:
        return {"_path": path, "path_type": "softlink"}
    known: dict[str, object] = {
        "_path": path,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(file.content).hexdigest(),
        "size_in_bytes": len(file.content),
    }
    return known | ({"file_mode": file.mode, "prefix_placeholder": PLACEHOLDER} if file.mode else {})


def _tar(files: Mapping[str, File]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for path, file in files.items():
            member = tarfile.TarInfo(path)
            member.mode = 0o755 if file.executable else 0o644
            member.size = len(file.content)
            if file.link:
                member.type, member.linkname = tarfile.SYMTYPE, file.link
            archive.addfile(member, io.BytesIO(file.content))
    return zstandard.ZstdCompressor(level=1).compress(raw.getvalue())


@dataclass
class Channel:
    """A folder of packages that environments are made from."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def add(self, packages: Iterable[Package]) -> Channel:
        for subdir in ("linux-64", "noarch"):
            (self.folder / subdir).mkdir(parents=True, exist_ok=True)
        for package in packages:
            package.write(self.folder)
            self.names.append(package.name)
        asyncio.run(rattler.index.index_fs(self.folder))
        return self

    def install(self, prefix: Path, *specs: str) -> Path:
        """Make an environment with some packages, all by default, and what they depend on."""
        cache = self.folder.parent / f"{self.folder.name}-unpacked"

        async def install() -> None:
            wanted = list(specs) or self.names
            records = await rattler.solve([self.folder.as_uri()], wanted, platforms=["linux-64", "noarch"])
            await rattler.install(records, prefix, cache_dir=cache, show_progress=False)

        asyncio.run(install())
        return prefix


def metadata(
    name: str, version: str, requires: Iterable[str] = (), installer: str = "conda", below: str = SITE
) -> dict[str, File | str]:
    """Return what Python wants to know about a package."""
    folder = f"{below}/{name}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
    record = [f"{name}/__init__.py,,", f"{name}-{version}.dist-info/METADATA,,", f"{name}-{version}.dist-info/RECORD,,"]
    texts = {"METADATA": lines, "RECORD": record, **({"INSTALLER": [installer]} if installer else {})}
    return {f"{folder}/{file}": "\n".join(text) + "\n" for file, text in texts.items()}


def python_package(*, small: bool = False) -> Package:
    """Return the interpreter that runs the tests as a package.

    Args:
        small: whether it has only the part of the standard library that most tests need.
    """
    if sysconfig.get_default_scheme() not in ("posix_prefix", "venv"):
        pytest.skip("the interpreter of this system has a layout of its own")
    base = Path(sys.base_prefix)
    files = dict(_library(base, small))
    program = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    built = built_interpreter(base)
    files[f"bin/{TAG}"] = (
        File(built, executable=True, mode="binary")
        if built
        else File(_without_run_path(program.read_bytes(), base), executable=True)
    )
    for name in ("python", "python3"):
        files[f"bin/{name}"] = File(link=TAG)
    # As the build tool of conda does it.
    files["bin/pydoc3"] = File(
        f"#!{PLACEHOLDER}/bin/{TAG}\nimport pydoc\npydoc.cli()\n".encode(), executable=True, mode="text"
    )
    return Package("python", PYTHON, files, ("libzlib-like",))


def _library(base: Path, small: bool) -> Iterator[tuple[str, File]]:
    library = base / "lib" / TAG
    for place, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")]
        for name in names:
            if small and not _is_in_small(os.path.relpath(os.path.join(place, name), library)):
                continue
            file = Path(place) / name
            content = file.read_bytes()
            path = str(file.relative_to(base))
            if name.startswith("_sysconfigdata"):
                content = content.replace(os.fsencode(base), PLACEHOLDER.encode())
                yield path, File(content, mode="text")
            else:
                yield path, File(content)
    for file in (base / "lib").glob("libpython*.so*"):
        content = b"" if file.is_symlink() else file.read_bytes()
        yield f"lib/{file.name}", File(content, os.readlink(file) if file.is_symlink() else "", True)


def _is_in_small(path: str) -> bool:
    first, _, rest = path.partition("/")
    name = first.removesuffix(".py")
    if name == "encodings":
        return rest.removesuffix(".py") in _CODECS
    return name in _SMALL.split() or name.startswith("_sysconfigdata")


@cache
def built_interpreter(base: Path) -> bytes:
    """Return an interpreter with the placeholder in it, as conda's own are; it says so in BUILT_PREFIX.

    Empty where there is no compiler, or no library of Python to link with.
    """
    if not has_compiler() or not (base / "lib" / f"lib{TAG}.so").exists():
        return b""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "python.c"), Path(folder, TAG)
        source.write_text(
            "#include <stdlib.h>\nint Py_BytesMain(int, char **);\n"
            f'static const char prefix[] = "{PLACEHOLDER}";\n'
            "int main(int count, char **words) {\n"
            '    setenv("BUILT_PREFIX", prefix, 1);\n'
            "    return Py_BytesMain(count, words);\n}\n"
        )
        library = [f"-L{base}/lib", f"-l{TAG}", "-Wl,-rpath,$ORIGIN/../lib"]
        subprocess.run(["cc", "-O0", "-o", program, source, *library], check=True, timeout=60)
        return program.read_bytes()


def _without_run_path(program: bytes, base: Path) -> bytes:
    """Let the program find its library beside itself, as those of conda do, and not in the folder it was built for."""
    found = os.fsencode(base / "lib") + b"\0"
    own = b"$ORIGIN/../lib\0"
    return program.replace(found, own.ljust(len(found), b"\0")) if len(own) <= len(found) else program


def _library_file(folder: Path) -> bytes:
    """Return a library that tells the prefix that it was built for; without a compiler, a file that has it."""
    if not has_compiler():
        return b"\x7fNOT-ELF\0" + PLACEHOLDER.encode() + b"/share/where\0\0after\0"
    source = folder / "where.c"
    source.write_text(
        f'const char *where_share(void) {{ return "{PLACEHOLDER}/share/where"; }}\n'
        f'const char *where_both(void) {{ return "{PLACEHOLDER}/lib:{PLACEHOLDER}/lib64"; }}\n'
        'const char *where_else(void) { return "/usr/bin/env"; }\n'
    )
    return _linked(folder, source, "libwhere.so.1")


def _run_path_files(folder: Path) -> dict[str, File]:
    """Return two libraries of which one finds the other by a run path in the prefix that it was built for."""
    if not has_compiler():
        return {}
    deep, near = folder / "deep.c", folder / "near.c"
    deep.write_text("int deep(void) { return 42; }\n")
    near.write_text("int deep(void);\nint near_and_deep(void) { return deep(); }\n")
    found = {"lib/libdeep.so.2": File(_linked(folder, deep, "libdeep.so.2", "-Wl,-soname,libdeep.so.2"))}
    words = (f"-Wl,-rpath,{PLACEHOLDER}/lib", f"-L{folder}", "-l:libdeep.so.2")
    found["lib/libnear.so"] = File(_linked(folder, near, "libnear.so", *words), mode="binary")
    return found


def _linked(folder: Path, source: Path, name: str, *words: str) -> bytes:
    command = ["cc", "-shared", "-fPIC", "-O0", "-fno-merge-constants", "-o", folder / name, source, *words]
    subprocess.run(command, check=True, timeout=60)
    return (folder / name).read_bytes()


def has_compiler() -> bool:
    return bool(shutil.which("cc"))


BINDING = """
import ctypes, os, sys

library = ctypes.CDLL(os.path.join(sys.prefix, "lib", "libwhere.so"))


def ask(name):
    function = getattr(library, name)
    function.restype = ctypes.c_char_p
    return function().decode()
"""

TOOL = """
import sys

import where


def main():
    print("tool at", where.ask("where_share"))
"""


def where_packages(folder: Path) -> list[Package]:
    """Return a C library, a module that loads it, a noarch tool on top, and what they need besides."""
    library = {
        **_run_path_files(folder),
        "lib/libwhere.so.1": File(_library_file(folder), executable=True, mode="binary"),
        "lib/libwhere.so": File(link="libwhere.so.1"),
        "lib/pkgconfig/where.pc": File(f"prefix={PLACEHOLDER}\nlibs=-L{PLACEHOLDER}/lib\n".encode(), mode="text"),
        "bin/where-config": File(
            f'#!{PLACEHOLDER}/bin/python3\nprint("{PLACEHOLDER}")\n'.encode(), executable=True, mode="text"
        ),
        "share/where/Names.txt": "upper\n",
        "share/where/names.txt": "lower\n",
        "etc/conda/activate.d/where.sh": 'export WHERE_IS="$CONDA_PREFIX/share"\n',
        "etc/conda/deactivate.d/where.sh": "unset WHERE_IS\n",
    }
    tool = {
        "site-packages/tool/__init__.py": TOOL,
        **metadata("tool", "2.0", ["where"], below="site-packages"),
    }
    return [
        Package("libzlib-like", "1.3", {"lib/libz-like.txt": "z\n"}),
        Package("libwhere", "1.0", library, ("libzlib-like",)),
        Package(
            "where",
            "1.0",
            {f"{SITE}/where.py": BINDING, **metadata("where", "1.0")},
            ("python", "libwhere >=1.0,<2"),
        ),
        Package("tool", "2.0", tool, ("python >=3", "where"), ("tool-run = tool:main",), noarch=True),
        Package("unrelated", "9.0", {"share/unrelated.txt": "x"}, ("python",)),
    ]


def numpy_package() -> Package:
    """Return NumPy as a package, from the wheel that is installed here; without its tests."""
    files: dict[str, File | str] = {}
    for path in files_of("numpy") or ():
        if "__pycache__" in path.parts or "tests" in path.parts or ".." in path.parts:
            continue
        content = Path(str(path.locate())).read_bytes()
        files[f"{SITE}/{path}"] = File(b"conda\n" if path.name == "INSTALLER" else content)
    return Package("numpy", version_of("numpy"), files, ("python",))


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str] | None = None) -> Path:
    """Write a wheel that pip can install."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (files or {f"{name}/__init__.py": ""}).items():
            archive.writestr(path, text)
        about = f"{name}-{version}.dist-info"
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def pip(prefix: Path, *words: str) -> None:
    """Run pip on an environment."""
    command = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "--no-input", "-q", *words]
    subprocess.run(command, check=True, timeout=100, capture_output=True)
