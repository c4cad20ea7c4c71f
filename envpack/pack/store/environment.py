"""Putting an environment together from unpacked layers: a virtual environment made of links.

The folder is a plain virtual environment: `pyvenv.cfg` names the node's own interpreter, `bin/python` leads to it, and
the layers' files are hard links, so an environment costs no disk space and outlives the layers it was made from. Where
links are impossible (another file system, too many links) the file is copied, as is one into which the path of the
environment has to be written.
Where a layer brings the interpreter, as from conda, the folder stands on its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.errors import (
    IncompatiblePackError,
    InterpreterError,
    PackFormatError,
    PrefixTooLongError,
    UsageError,
)
from envpack.pack.layer.claims import Claims
from envpack.pack.layer.entries import EXECUTABLE, FOLDER, LINK, Listing, Placeholder
from envpack.pack.layer.placeholders import file_pieces, fill
from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.store.linking import link

if TYPE_CHECKING:
    from envpack.discover.environment.interpreter import Interpreter


@dataclass(frozen=True, slots=True)
class BaseInterpreter:
    """The interpreter of this machine that an environment stands on.

    Attributes:
        executable: its path; not that of a virtual environment.
        version: such as `3.11.7`.
    """

    executable: str
    version: str


def find_executable(manifest: Manifest, python: str | None = None) -> str:
    """Find the interpreter on this machine that the environment is to stand on; cheap, nothing is run.

    Args:
        manifest: the environment.
        python: path or name of the interpreter to use; by default the running one, where it is of the right version,
            else `python3.X` on PATH.

    Returns:
        Its path; empty where the environment brings its own.

    Raises:
        IncompatiblePackError: there is none.
        UsageError: one is named, and the environment brings its own.
    """
    if manifest.has_interpreter:
        if python is not None:
            raise UsageError(f"pack brings its own interpreter, {python!r} named to stand on", "leave --python out")
        return ""
    if python is None and _fits_running(manifest):
        return _running_executable()
    name = python or f"{'pypy' if manifest.implementation == 'pypy' else 'python'}{manifest.python}"
    found = shutil.which(name)
    if found is None:
        running = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
        raise IncompatiblePackError(
            f"pack needs {manifest.implementation} {manifest.python}, this is {running} and there is no {name!r}",
            f"install Python {manifest.python} on this machine, or pack again with an interpreter that it has",
        )
    return os.path.abspath(found)


def check_base(manifest: Manifest, executable: str) -> BaseInterpreter | None:
    """Ask an interpreter whether it is what the environment needs.

    Args:
        manifest: the environment.
        executable: what `find_executable` gave.

    Returns:
        What the environment stands on; none where it brings its own, which then fits the machine.

    Raises:
        IncompatiblePackError: it differs in version, ABI or platform, or cannot be run.
    """
    if manifest.has_interpreter:
        _check_machine(manifest)
        return None
    # Only here: an environment that is there is found without what looks into interpreters.
    from envpack.discover.environment.interpreter import inspect_interpreter

    running = executable == sys.executable
    try:
        interpreter = inspect_interpreter(None if running else executable)
    except InterpreterError as error:
        raise IncompatiblePackError(
            f"pack needs {manifest.implementation} {manifest.python}: {error.message}",
            f"install Python {manifest.python} on this machine, or pack again with an interpreter that it has",
        ) from error
    return _checked(interpreter, manifest)


def _running_executable() -> str:
    """Return the running interpreter: a process may outlive its virtual environment, not what that was made from."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return sys.executable if os.path.exists(sys.executable) else base


def _check_machine(manifest: Manifest) -> None:
    import sysconfig

    met = sysconfig.get_platform()
    if not fits_platform(manifest.platform, met):
        raise IncompatiblePackError(
            f"pack needs {manifest.platform}, this machine is {met}", "pack again on a machine like this one"
        )


def _fits_running(manifest: Manifest) -> bool:
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (running, sys.implementation.name) == (manifest.python, manifest.implementation)


def fits_platform(needed: str, met: str) -> bool:
    """Tell whether an interpreter of a platform runs what was packed for one.

    Of macOS the machine alone counts: the release in the name is the oldest that the interpreter was built for.
    """
    if needed.startswith("macosx-") and met.startswith("macosx-"):
        return met.rpartition("-")[2] in (needed.rpartition("-")[2], "universal2")
    return met == needed


def _checked(interpreter: Interpreter, manifest: Manifest) -> BaseInterpreter:
    version = ".".join(interpreter.version.split(".")[:2])
    met = (interpreter.implementation, version, interpreter.abi, interpreter.platform)
    needed = (manifest.implementation, manifest.python, manifest.abi, manifest.platform)
    if met[:3] != needed[:3] or not fits_platform(manifest.platform, interpreter.platform):
        raise IncompatiblePackError(
            f"pack needs {' '.join(needed)}, {interpreter.executable} is {' '.join(met)}",
            "name another interpreter, or pack again for this machine",
        )
    return BaseInterpreter(interpreter.base_executable, interpreter.version)


def write_skeleton(folder: Path, manifest: Manifest, base: BaseInterpreter | None) -> None:
    """Write what makes a folder a virtual environment."""
    site = f"lib/python{manifest.python}/site-packages"
    (folder / site).mkdir(parents=True)
    (folder / "bin").mkdir()
    if base is None:
        # It names no other home: all that it says is that the user's own site-packages do not belong here.
        (folder / "pyvenv.cfg").write_text(f"include-system-site-packages = false\nenvpack = {manifest.id}\n")
        return
    os.symlink(base.executable, folder / "bin" / "python")
    for name in ("python3", f"python{manifest.python}"):
        os.symlink("python", folder / "bin" / name)
    # Some systems look for extension modules here.
    os.symlink("lib", folder / "lib64")
    (folder / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(base.executable)}\n"
        "include-system-site-packages = false\n"
        f"version = {base.version}\n"
        f"envpack = {manifest.id}\n"
    )


def check_whole(folder: Path, manifest: Manifest) -> None:
    """Make sure that an environment has the interpreter that its manifest says it brings.

    Raises:
        PackFormatError: no layer holds one.
    """
    if not os.path.exists(folder / "bin" / "python"):
        raise PackFormatError(
            f"environment {manifest.id[:12]} is to bring its interpreter, no layer holds 'bin/python'", "pack again"
        )


def link_layer(layer: LayerRef, listing: Listing, source: Path, folder: Path, claims: Claims, prefix: str) -> None:
    """Put the files of an unpacked layer into an environment.

    Args:
        layer: the layer.
        listing: what it is.
        source: where it is unpacked.
        folder: where the environment is made.
        claims: who has put what there.
        prefix: where the environment will be.

    Raises:
        LayerConflictError: a path is taken by another layer with different content.
        PrefixTooLongError: that place does not fit into a file.
    """
    check_prefix(layer, listing.placeholders, prefix)
    rewritten = {placeholder.path: placeholder for placeholder in listing.placeholders}
    made = {""}
    for entry in listing.entries:
        if not claims.claim(entry, layer):
            continue
        parent = entry.path.rpartition("/")[0]
        if parent not in made:
            os.makedirs(f"{folder}/{parent}", exist_ok=True)
            made.add(parent)
        if entry.mode == FOLDER:
            os.makedirs(f"{folder}/{entry.path}", exist_ok=True)
        elif entry.mode == LINK:
            os.symlink(entry.target, f"{folder}/{entry.path}")
        elif entry.path in rewritten:
            write_prefix(f"{source}/{entry.path}", f"{folder}/{entry.path}", rewritten[entry.path], prefix)
            os.chmod(f"{folder}/{entry.path}", 0o555 if entry.mode == EXECUTABLE else 0o444)
        else:
            link(f"{source}/{entry.path}", f"{folder}/{entry.path}")


def check_prefix(layer: LayerRef, placeholders: Iterable[Placeholder], prefix: str) -> None:
    """Make sure that a folder's path fits into all binary files that it is to be written into.

    Raises:
        PrefixTooLongError: it does not.
    """
    length = len(os.fsencode(prefix))
    for path, mode, text in placeholders:
        room = len(text.encode())
        if mode == "binary" and length > room:
            raise PrefixTooLongError(
                f"path of {length} bytes, {path!r} of {layer} has room for {room}: {prefix!r}",
                "name a folder with a shorter path",
            )


def write_prefix(source: str, target: str, placeholder: Placeholder, prefix: str) -> None:
    """Write a file with the place of an environment in it.

    Args:
        source: the file with the placeholder.
        target: the file to make.
        placeholder: what is replaced, and how.
        prefix: the place.
    """
    content = fill(
        file_pieces(source, placeholder.mode), placeholder.mode, placeholder.text.encode(), os.fsencode(prefix)
    )
    with open(target, "xb") as stream:
        stream.writelines(content)
