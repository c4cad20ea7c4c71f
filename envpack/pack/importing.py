"""An environment from a file into a store: packs, plain archives, and what conda-pack and venv-pack made.

An archive of another tool is unpacked in the store, looked at as any environment is, cut into layers, and thrown away.
For that its interpreter is run (of a virtual environment: one of this machine, in it), so an archive is to be trusted
as a program is. The layers are those that the environment would have given where it was made.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.discover.environment.interpreter import Interpreter, inspect_interpreter
from envpack.errors import IncompatiblePackError, ManifestNotFoundError, PackFormatError, UsageError
from envpack.pack.formats.magic import is_archive
from envpack.pack.formats.opening import is_own, read_begin
from envpack.pack.manifest import Manifest
from envpack.pack.sources.conda import package_placeholders
from envpack.pack.sources.libraries import MissingLibrary
from envpack.pack.sources.prefixes import Written, whole_environment
from envpack.pack.store.environment import find_executable
from envpack.pack.store.index import LayerIndex, archive_stamps
from envpack.pack.store.store import Store

if TYPE_CHECKING:
    import ast

    from envpack.pack.building import Progress

_UNPACK = "bin/conda-unpack"
_LIBRARY = re.compile(r"python(\d+\.\d+)t?")
_MAX_SCRIPT_BYTES = 1 << 26


def is_environment_file(target: object) -> bool:
    """Tell whether something is the path of a file that `import_environment` takes."""
    if not isinstance(target, str | os.PathLike) or not os.path.isfile(target):
        return False
    begin = read_begin(target)
    return is_own(begin) or is_archive(begin)


def import_environment(
    file: str | os.PathLike[str],
    store: Store,
    *,
    python: str | None = None,
    progress: Progress | None = None,
    warn: Callable[[MissingLibrary], None] | None = None,
) -> Manifest:
    """Take the environment that a file holds into a store.

    Args:
        file: a pack, a plain archive, or an archive by conda-pack (with `conda-unpack`) or venv-pack.
        store: where its layers go.
        python: for an archive by venv-pack, an interpreter of its version; by default one is looked for.
        progress: called once for each layer that is cut out of an archive of another tool.
        warn: see `pack`.

    Raises:
        UsageError: there is no such file.
        PackFormatError: it holds no environment, is damaged, or holds what is not safe.
        IncompatiblePackError: this machine has no interpreter that fits.
        DistributionFilesError: the files of a distribution in it cannot be told.
        StoreError: the store cannot be written.
    """
    begin = read_begin(file)
    if is_own(begin) and python is not None:
        raise UsageError(f"pack holds layers that are built, {python!r} named to build them", "leave --python out")
    if is_own(begin) or not is_archive(begin):
        manifest = store.import_pack(file)  # which says of other files what they are not
        _tell(manifest, store, progress)
        return manifest
    index = LayerIndex(store.folder / "index", f"{sys.implementation.name} {python or ''}")
    known = _known(index.find_archive(os.fspath(file)), store)
    if known is not None:
        _tell(known, store, progress)
        return known
    stamps = archive_stamps(os.fspath(file))
    manifest = _cut(os.fspath(file), store, python, progress, warn)
    index.keep_archive(os.fspath(file), stamps, manifest.id)
    return manifest


def _known(id: str, store: Store) -> Manifest | None:
    """Return an environment that the store has all layers of; they stay as long as this process lives."""
    try:
        manifest = store.manifest(id) if id else None
    except ManifestNotFoundError:
        return None
    if manifest is None or not all(store.hold_blob(ref.digest) for ref in manifest.layers):
        return None
    store.add_manifest(manifest)
    return manifest


def _tell(manifest: Manifest, store: Store, progress: Progress | None) -> None:
    from envpack.pack.building import LayerEvent

    if progress is None:
        return
    for done, ref in enumerate(manifest.layers, start=1):
        size = store.blob(ref.digest).stat().st_size
        progress(LayerEvent(ref, False, size, (), (), done, len(manifest.layers)))


def _cut(
    file: str,
    store: Store,
    python: str | None,
    progress: Progress | None,
    warn: Callable[[MissingLibrary], None] | None,
) -> Manifest:
    """Cut an archive of another tool into layers."""
    from envpack.pack.building import build
    from envpack.pack.formats.foreign import extract

    with store.work() as folder:
        (folder / "archive").mkdir()
        extract(file, folder / "archive")
        prefix, written = _recognised(folder / "archive", file)
        interpreter = _interpreter(prefix, python)
        layers = whole_environment(interpreter, written)
        return build(layers, interpreter, store, progress=progress, warn=warn, index=folder / "index")


def _recognised(folder: Path, source: str) -> tuple[Path, Written]:
    """Return where in an unpacked archive the environment lies, and what it says of where it lay."""
    inside = list(folder.iterdir())
    for prefix in (folder, *(inside if len(inside) == 1 and inside[0].is_dir() else ())):
        if (prefix / "conda-meta").is_dir():
            if (prefix / _UNPACK).is_file():
                return prefix, _written(prefix)
            raise PackFormatError(
                f"archive {source!r} has conda-meta and no {_UNPACK!r}: packed for one place by --dest-prefix",
                "pack it without",
            )
        if (prefix / "pyvenv.cfg").is_file() and (prefix / "bin" / "activate").is_file():
            return prefix, Written()
    raise PackFormatError(
        f"no environment in archive {source!r}: neither 'conda-meta' and {_UNPACK!r} (conda-pack) "
        "nor 'pyvenv.cfg' and 'bin/activate' (venv-pack) met",
        "make a pack with envpack pack -o",
    )


def _written(prefix: Path) -> Written:
    """Return the folder that conda-pack found in files, by the list in the program that it adds."""
    import ast

    script = prefix / _UNPACK
    if script.stat().st_size > _MAX_SCRIPT_BYTES:
        raise PackFormatError(f"{_UNPACK!r} has more than {_MAX_SCRIPT_BYTES} bytes")
    try:
        records = _records(ast.parse(script.read_bytes()))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise PackFormatError(f"list of files in {_UNPACK!r} cannot be read: {error}") from error
    # Files of packages keep the placeholder of their package, all others have the folder itself.
    placeholders = package_placeholders(str(prefix))
    found = [(path, place) for path, place, mode in records if mode == "text" and place not in placeholders]
    if not found:
        return Written()
    ((folder, _),) = Counter(place for _, place in found).most_common(1)
    return Written(folder, frozenset(path for path, place in found if place == folder))


def _records(script: ast.Module) -> list[tuple[str, str, str]]:
    import ast

    for node in script.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(name, ast.Name) and name.id == "_prefix_records" for name in node.targets
        ):
            return [(str(path), str(place), str(mode)) for path, place, mode in ast.literal_eval(node.value)]
    raise ValueError("'_prefix_records' is absent")


def _interpreter(prefix: Path, python: str | None) -> Interpreter:
    """Return the interpreter of an environment, which a virtual one is lent first."""
    program = prefix / "bin" / "python"
    if not (prefix / "conda-meta").is_dir():
        _lend(prefix, python)
    elif python is not None:
        raise UsageError(f"archive brings its own interpreter, {python!r} named", "leave --python out")
    elif not program.exists():
        raise PackFormatError("archive by conda-pack has no 'bin/python'", "add python to the environment")
    return inspect_interpreter(str(program))


def _lend(prefix: Path, python: str | None) -> None:
    versions = [match[1] for item in (prefix / "lib").glob("python*") if (match := _LIBRARY.fullmatch(item.name))]
    if len(versions) != 1:
        raise PackFormatError(f"one folder lib/pythonX.Y expected in the archive, {len(versions)} met")
    # Only what is asked for when an interpreter is looked for.
    needed = Manifest(versions[0], sys.implementation.name, "", "", ())
    base = inspect_interpreter(find_executable(needed, python))
    if not base.version.startswith(f"{versions[0]}."):
        raise IncompatiblePackError(
            f"archive was made with Python {versions[0]}, {base.executable} is {base.version}", "name another one"
        )
    for name in ("bin/python", "pyvenv.cfg"):
        (prefix / name).unlink(missing_ok=True)
    (prefix / "bin" / "python").symlink_to(base.base_executable)
    (prefix / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(base.base_executable)}\ninclude-system-site-packages = false\n"
    )
