"""Whether an environment has the shared libraries that its machine code asks for.

A library is there if the pack has one of that name (at which place is the business of the package: it names the folder
in the file that needs it, or loads the library itself before), if it lies beside the interpreter, or if it is on every
Linux, which is what PEP 600 lets wheels rely on. What is found in none of these is on the packing machine at best.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from envpack.pack.sources.elf import read_dynamic

# PEP 600 and the policies of auditwheel name these; the driver of a graphics card brings the last line with it.
_EVERYWHERE = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libnsl.so.1"),
        *("libresolv.so.2", "libcrypt.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libexpat.so.1"),
        *("libatomic.so.1", "libanl.so.1", "libBrokenLocale.so.1", "libX11.so.6", "libXext.so.6", "libXrender.so.1"),
        *("libICE.so.6", "libSM.so.6", "libGL.so.1", "libglib-2.0.so.0", "libgobject-2.0.so.0", "libgthread-2.0.so.0"),
        *("libcuda.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvidia-encode.so.1"),
    }
)
_LOADERS = ("ld-linux", "ld64.so", "ld-musl-", "libc.musl-", "linux-vdso")


@dataclass(frozen=True, slots=True)
class LayerLibraries:
    """What the machine code of one layer asks for and offers.

    Attributes:
        wanted: libraries that are neither in the layer nor on every Linux, each with a file that asks for it.
        offered: names of the libraries in the layer.
    """

    wanted: tuple[tuple[str, str], ...] = ()
    offered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class MissingLibrary:
    """A shared library that a layer asks for and that nothing in the pack has.

    Attributes:
        library: its name, such as `libopenblas.so.0`.
        file: a file that asks for it, as a path in the environment.
        layer: name and version of the distribution that holds the file.
    """

    library: str
    file: str
    layer: str

    def __str__(self) -> str:
        return (
            f"{self.layer}: {self.file!r} asks for {self.library!r}, which is neither in the pack nor on every Linux: "
            "install a wheel or conda package that has it, or see to it that each node does"
        )


def layer_libraries(files: Iterable[tuple[str, str]]) -> LayerLibraries:
    """Read what the machine code among the files of a layer asks for.

    Args:
        files: path in the environment and path on disk of each file.
    """
    read = {path: dynamic for path, file in files if _may_be_code(path) and (dynamic := read_dynamic(file))}
    offered = {posixpath.basename(path) for path in read} | {one.soname for one in read.values() if one.soname}
    wanted: dict[str, str] = {}
    for path, dynamic in read.items():
        for library in dynamic.needed:
            if library not in offered and not is_everywhere(library):
                wanted.setdefault(library, path)
    return LayerLibraries(tuple(sorted(wanted.items())), tuple(sorted(offered)))


def is_everywhere(library: str) -> bool:
    """Whether a library of that name may be expected on every Linux."""
    return library in _EVERYWHERE or library.startswith(_LOADERS)


def missing_libraries(
    layers: Iterable[tuple[str, LayerLibraries]], folders: Iterable[str]
) -> tuple[MissingLibrary, ...]:
    """Return what no layer offers.

    Args:
        layers: name and version of each layer, and what it asks for and offers.
        folders: where the interpreter has libraries of its own.
    """
    every = list(layers)
    offered = {name for _, libraries in every for name in libraries.offered}
    places = list(folders)
    return tuple(
        sorted(
            MissingLibrary(library, file, layer)
            for layer, libraries in every
            for library, file in libraries.wanted
            if library not in offered and not any(os.path.exists(os.path.join(place, library)) for place in places)
        )
    )


def _may_be_code(path: str) -> bool:
    name = posixpath.basename(path)
    return ".so" in name or path.startswith("bin/")
