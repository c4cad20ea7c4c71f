"""A whole environment as sources of layers: every distribution, every package of conda, and what none of them lists.

The layers of distributions and packages are those that any environment with them has, so they are shared; the rest is
one layer more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

from envpack.discover.environment.interpreter import Interpreter
from envpack.errors import DistributionFilesError
from envpack.pack.layer.placeholders import emptied
from envpack.pack.layer.writer import Source
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.conda import CondaFiles
from envpack.pack.sources.distributions import InstalledFiles, LayerFiles, layer_sources
from envpack.pack.sources.record import is_installed_note

# Stands for the folder of the environment in files of the rest, which have no placeholder of their own.
PLACEHOLDER = "/envpack/place/of/the/environment"

_OF_THE_ENVIRONMENT = ("activate", "deactivate", "Activate", "python", "pypy", "conda-unpack", "conda_unpack_progress")


@dataclass(frozen=True, slots=True)
class Written:
    """A folder whose path stands in files of an environment that lies elsewhere.

    Attributes:
        prefix: the folder; empty where it is not known to stand in any.
        texts: files of the environment in which it stands as text.
    """

    prefix: str = ""
    texts: frozenset[str] = frozenset()


def whole_environment(interpreter: Interpreter, written: Written) -> list[LayerFiles]:
    """Return all that is in an environment.

    Args:
        interpreter: its interpreter; what lies outside of its prefix does not count.
        written: the folder that it lay in before.

    Raises:
        DistributionFilesError: a distribution is a development install, or its files cannot be told.
    """
    prefix = interpreter.prefix
    installed = InstalledFiles(interpreter)
    conda = CondaFiles(prefix, installed.index, dict(interpreter.markers), written.prefix)
    layers = [conda.layer(name) for name in conda.as_installed()]
    for item in installed.index:
        if item.source == "conda" or not item.location.startswith(prefix.rstrip("/") + "/"):
            continue
        if item.is_editable:
            raise DistributionFilesError(
                f"distribution {item.name!r} is a development install, its code is not in the environment",
                "install it without --editable before the environment is packed",
            )
        layers.append(installed.layer(item))
    claimed = {target for layer in layers for target, _ in layer.files}
    others = tuple(_others(prefix, claimed))
    if others:
        placed = frozenset(target for target, _ in others if target in written.texts)
        layer = LayerFiles("local", "others", "", b"", others)
        layers.append(replace(layer, make=partial(_other_sources, layer, placed, written.prefix)))
    return layers


def _others(prefix: str, claimed: Collection[str]) -> Iterator[tuple[str, str]]:
    for place, folders, names in os.walk(prefix):
        below = os.path.relpath(place, prefix)
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if name != "__pycache__" and name not in links)
        if below == ".":
            folders[:] = [name for name in folders if name != "conda-meta"]
        for name in sorted([*names, *links]):
            target = os.path.normpath(os.path.join(below, name))
            if target not in claimed and not _is_of_the_environment(target):
                yield target, os.path.join(place, name)


def _is_of_the_environment(target: str) -> bool:
    folder, _, name = target.rpartition("/")
    if folder == "bin":
        return name.startswith(_OF_THE_ENVIRONMENT)
    return target in ("pyvenv.cfg", "lib64") or is_installed_note(target)


def _other_sources(
    layer: LayerFiles, placed: frozenset[str], prefix: str, compiler: BytecodeCompiler
) -> Iterator[Source]:
    plain: list[tuple[str, str]] = []
    for target, file in layer.files:
        if os.path.islink(file):
            yield Source(target, file)
        elif target in placed:
            executable = bool(os.stat(file).st_mode & 0o100)
            make = partial(_without_place, file, prefix)
            yield Source(target, make=make, executable=executable, placeholder=("text", PLACEHOLDER))
        else:
            plain.append((target, file))
    yield from layer_sources(replace(layer, files=tuple(plain), make=None), compiler)


def _without_place(file: str, prefix: str) -> bytes:
    with open(file, "rb") as stream:
        return emptied(stream.read(), "text", PLACEHOLDER.encode(), os.fsencode(prefix))[0]
