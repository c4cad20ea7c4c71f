"""The distributions of a target that is not at hand: the wheels of an index, and what is installed here and is pure.

What the target needs is resolved for it by uv: its markers decide which requirements count, and every distribution that
is installed here keeps its version. What no index gave (development installs, folders, addresses) is taken as it is
installed, if there is no machine code in it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from envpack.discover.dependencies import Dependencies, Distribution
from envpack.discover.environment.interpreter import Interpreter, inspect_interpreter
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.errors import EnvpackError, InterpreterError, RegistryError, TargetDistributionError, UsageError
from envpack.pack.sources.distributions import InstalledFiles, LayerFiles, local_layer
from envpack.pack.sources.registry import uv_environ
from envpack.pack.sources.targets import USUAL_GLIBC, PackTarget

_CODE = re.compile(r"\.(?:so(?:\.[\d.]+)?|pyd|dylib|dll)$")
_NO_WHEEL = re.compile(r"(\S+) has no (?:usable )?wheels")
_NEVER = 'python_version < "0"'


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What uv is asked for: lines of requirements, versions to keep to, and names that do not count."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    left_out: tuple[str, ...]


def own_glibc() -> int:
    """Return the minor version of the glibc of this machine; that of every Linux of today where it has none."""
    try:
        release = (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition("2.")[2]
    except (AttributeError, ValueError, OSError):
        release = ""
    return int(release) if release.isdecimal() else USUAL_GLIBC


def target_interpreter(target: PackTarget, interpreter: Interpreter) -> Interpreter:
    """Return what is known of the interpreter of a target.

    Bytecode depends on the version alone: the executable is one of that version here, or empty where there is none.
    """
    compiling = python_of_version(target.python)
    known = compiling or replace(interpreter, executable="", version=f"{target.python}.0")
    return replace(known, abi=target.abi, platform=target.platform, base_prefix="")


def python_of_version(version: str) -> Interpreter | None:
    """Return a CPython of this machine of a version such as `3.12`, which can compile for another machine."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version and sys.implementation.name == "cpython":
        return inspect_interpreter(None)
    # A name on PATH proves nothing: version managers put names there that only print an error.
    places = (os.path.join(folder, f"python{version}") for folder in os.get_exec_path())
    return next(filter(None, (_fitting(place, version) for place in places if os.access(place, os.X_OK))), None)


def _fitting(executable: str, version: str) -> Interpreter | None:
    try:
        found = inspect_interpreter(executable)
    except InterpreterError:
        return None
    return found if found.implementation == "cpython" and found.abi == f"cp{version.replace('.', '')}" else None


@contextmanager
def target_layers(
    dependencies: Dependencies, interpreter: Interpreter, target: PackTarget, exclude: Sequence[str] = ()
) -> Iterator[list[LayerFiles]]:
    """Give the layers of a target; the files that were fetched are there as long as the context is.

    Args:
        dependencies: what is needed, as found in the environment of `interpreter`.
        interpreter: the interpreter of that environment.
        target: the machine to pack for.
        exclude: distributions that are left out, also where others require them.

    Raises:
        TargetDistributionError: a distribution cannot be had for the target; all that is known before uv is asked is
            named at once.
        RegistryError: no index can be asked.
        UsageError: there is no uv.
    """
    installed = InstalledFiles(replace(interpreter, version=f"{target.python}.0"))
    found = [(item, installed.find(item.name, item.version)) for item in dependencies.distributions]
    taken = {item.name: (item, here) for item, here in found if here.is_editable or here.direct_url}
    layers = [installed.layer(here) for _, here in taken.values() if here.source != "conda"]
    if dependencies.local_files:
        layers.append(local_layer(dependencies.local_files, dependencies.local_roots, target.python))
    _refuse(_obstacles([here for _, here in found], layers, interpreter, target), target)
    with tempfile.TemporaryDirectory(prefix="envpack-target-") as folder:
        wanted = _wanted([item for item, _ in found if item.name not in taken], list(taken.values()), exclude)
        sites = _install(wanted, target, Path(folder)) if wanted.requirements else []
        yield layers + _fetched(interpreter, target, sites)


def _obstacles(
    found: Iterable[InstalledDistribution], layers: Iterable[LayerFiles], interpreter: Interpreter, target: PackTarget
) -> Iterator[str]:
    """Yield why what is not fetched from an index cannot be packed for a target."""
    if interpreter.implementation != "cpython":
        yield f"{interpreter.executable} is {interpreter.implementation}, and only CPython is packed for elsewhere"
    for here in found:
        if here.source == "conda":
            yield f"{here.name} {here.version} was installed by conda, which has no wheel of it"
        elif (here.is_editable or here.direct_url) and not _suits(here, target):
            yield f"{here.name} {here.version} is installed from its sources, which do not allow Python {target.python}"
    for layer in layers:
        code = [path for path, _ in layer.files if _CODE.search(path)]
        if code:
            name = "the user's own code" if layer.kind == "local" else f"{layer.name} {layer.version}"
            way = "a development install" if layer.kind == "editable" else "not from an index"
            yield f"{name} is {way} and has machine code of this machine: {code[0]!r}"


def _suits(here: InstalledDistribution, target: PackTarget) -> bool:
    try:
        return SpecifierSet(here.requires_python).contains(target.version, prereleases=True)
    except InvalidSpecifier:
        return True  # no installer could have read it either


def _refuse(obstacles: Iterable[str], target: PackTarget) -> None:
    reasons = list(obstacles)
    if reasons:
        raise TargetDistributionError(
            f"cannot pack for {target}: {'; '.join(reasons)}",
            "install a wheel of an index, leave it out with --exclude, or pack on such a machine",
        )


def _wanted(
    fetched: Sequence[Distribution],
    taken: Sequence[tuple[Distribution, InstalledDistribution]],
    exclude: Sequence[str],
) -> _Wanted:
    """Return what to ask uv for, so that it finds what the code, and what is taken as it is, need on the target."""
    names = {canonicalize_name(name) for name in exclude} | {item.name for item, _ in taken}
    requirements = [_pinned(item) for item in fetched if item.role != "transitive"]
    for item, here in taken:
        requirements += [line for line in _requirements(item, here) if Requirement(line).name not in names]
    constraints = [f"{item.name}=={_public(item.version)}" for item in fetched]
    return _Wanted(tuple(sorted(set(requirements))), tuple(constraints), tuple(sorted(names)))


def _pinned(item: Distribution) -> str:
    extras = f"[{','.join(item.extras)}]" if item.extras else ""
    return f"{item.name}{extras}=={_public(item.version)}"


def _public(version: str) -> str:
    """Return a version without its local part, which names a build, `2.13.0+cpu`: elsewhere there are others."""
    return version.partition("+")[0]


def _requirements(item: Distribution, here: InstalledDistribution) -> Iterator[str]:
    """Yield what a distribution requires, with the markers for uv to decide; those of its extras where it has them."""
    for line in here.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is not None and "extra" in str(marker):
            if not any(marker.evaluate({"extra": extra}) for extra in item.extras):
                continue
            requirement.marker = None
        requirement.name = canonicalize_name(requirement.name)
        yield str(requirement)


def _install(wanted: _Wanted, target: PackTarget, folder: Path) -> list[str]:
    """Let uv resolve and fetch, and return the folders with the modules."""
    lists = {
        "requirement": wanted.requirements,
        "constraint": wanted.constraints,
        "override": [f"{name} ; {_NEVER}" for name in wanted.left_out],
    }
    words: list[str] = []
    for option, lines in lists.items():
        file = folder / f"{option}.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        words += [f"--{option}", str(file)]
    prefix = folder / "prefix"
    command = [
        *(*_uv(), "pip", "install", "--quiet", "--color", "never", "--prefix", str(prefix), "--python", sys.executable),
        *("--python-version", target.version, "--python-platform", target.wheels, "--only-binary", ":all:", *words),
    ]
    environ = uv_environ(os.environ) | ({"MACOSX_DEPLOYMENT_TARGET": target.macos} if target.macos else {})
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise _failure(done.stderr, target)
    return sorted({str(metadata.parent) for metadata in prefix.rglob("*.dist-info")})


def _uv() -> list[str]:
    found = shutil.which("uv")
    if found is not None:
        return [found]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise UsageError(
        "another target than this machine is asked for, and there is no uv to fetch its distributions",
        "pip install 'envpack-hpc[target]'",
    )


def _failure(said: str, target: PackTarget) -> EnvpackError:
    """Return the error for what uv said: it could ask and there is nothing that fits, or it could not even ask."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith(("warning:", "hint:"))]
    text = " ".join(line.removeprefix("error: ").removeprefix("cause: ") for line in lines if line)
    reason = text.removeprefix("No solution found when resolving dependencies ") or "nothing said"
    if "No solution found" not in said:
        return RegistryError(
            f"distributions for {target} cannot be fetched: {reason}", "see how uv or pip is configured"
        )
    names = _NO_WHEEL.findall(reason)
    what = f"no wheel of {', '.join(names)}" if names else "not all distributions can be had"
    return TargetDistributionError(
        f"{what} for {target} ({target.wheels}): {reason}",
        "install a version that has one, leave it out with --exclude, or pack on such a machine",
    )


def _fetched(interpreter: Interpreter, target: PackTarget, sites: list[str]) -> list[LayerFiles]:
    installed = InstalledFiles(replace(interpreter, version=f"{target.python}.0", sys_path=tuple(sites)))
    # Each run fetches into a folder of its own: what the files are is told by RECORD, not by where and when they came.
    return [replace(layer, identity=layer.stamp) for layer in map(installed.layer, installed.index)]
