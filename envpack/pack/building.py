"""Building layers and the environment that consists of them: what is there is found, the rest is made in parallel."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envpack.discover.environment.interpreter import Interpreter
from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.sources.bytecode import BytecodeCompiler
from envpack.pack.sources.distributions import LayerFiles, bytecode_layer, is_module, layer_sources, site_packages
from envpack.pack.sources.libraries import LayerLibraries, MissingLibrary, layer_libraries, missing_libraries
from envpack.pack.sources.used import UsedModules, modules_of
from envpack.pack.store.index import LayerIndex, Note, file_stamps
from envpack.pack.store.store import Store

_log = logging.getLogger(__name__)

# Compression and hashing leave the interpreter lock; more threads than this wait for the disk.
_MAX_THREADS = 8


@dataclass(frozen=True, slots=True)
class LayerEvent:
    """One layer is in the store.

    Attributes:
        ref: the layer.
        built: whether it was built now; false where it was there.
        blob_bytes: size of its file.
        edited: files whose content is not what RECORD, or the record of conda, says; they were packed as they are.
        missing: files that it names and that are not on disk.
        done: how many layers are ready.
        total: how many there will be.
    """

    ref: LayerRef
    built: bool
    blob_bytes: int
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    done: int
    total: int


class Uses(NamedTuple):
    """What the user's code says about the modules that it uses.

    Attributes:
        roots: the modules that it imports.
        names: the names that stand behind a dot in it.
    """

    roots: Collection[str]
    names: set[str]


Progress = Callable[[LayerEvent], None]


def build(
    layers: list[LayerFiles],
    interpreter: Interpreter,
    store: Store,
    *,
    uses: Uses | None = None,
    progress: Progress | None = None,
    warn: Callable[[MissingLibrary], None] | None = None,
    index: Path | None = None,
) -> Manifest:
    """Build layers, and the environment that consists of them.

    Args:
        layers: what goes into each.
        interpreter: the interpreter that they are for; there will be no bytecode where it has no executable.
        store: the store to build in.
        uses: what decides of which modules the bytecode is packed; of all, where there is no such thing.
        progress: see `pack`.
        warn: see `pack`.
        index: folder of what is remembered of the files; by default that of the store.
    """
    notes = _Builder(interpreter, store, index or store.folder / "index").build(layers, uses, progress)
    manifest = Manifest(
        python=".".join(interpreter.version.split(".")[:2]),
        implementation=interpreter.implementation,
        abi=interpreter.abi,
        platform=interpreter.platform,
        layers=tuple(note.ref for note in notes),
        has_interpreter=any(_is_interpreter(layer) for layer in layers),
    )
    store.add_manifest(manifest)
    is_brought = any(layer.kind == "interpreter" for layer in layers)
    own = [os.path.join(interpreter.base_prefix, "lib")] if interpreter.base_prefix and not is_brought else []
    for missing in missing_libraries([(str(note.ref), note.libraries) for note in notes], own):
        (warn or _log_warning)(missing)
    return manifest


def _is_interpreter(layer: LayerFiles) -> bool:
    return layer.kind == "interpreter" or (layer.kind == "conda" and "bin/python" in dict(layer.files))


def _log_warning(missing: MissingLibrary) -> None:
    _log.warning("%s", missing)


class _Builder:
    """Builds the layers of one environment, several at a time; what was built before is found.

    Args:
        interpreter: the interpreter whose environment is packed; without an executable it compiles nothing.
        store: where the layers go.
        index: folder of what is remembered of the files.
    """

    def __init__(self, interpreter: Interpreter, store: Store, index: Path) -> None:
        self._interpreter = interpreter
        self._store = store
        built_for = f"{interpreter.implementation} {interpreter.version}"
        self._index = LayerIndex(index, built_for if interpreter.executable else f"{built_for} without bytecode")

    def build(self, layers: list[LayerFiles], uses: Uses | None, progress: Progress | None) -> list[Note]:
        """Build what is not in the store, and the bytecode that the user's code waits for.

        Args:
            layers: what goes into the environment.
            uses: what the user's code says; without it somebody may wait for any module.
            progress: called for each layer.
        """
        threads = min(_MAX_THREADS, os.cpu_count() or 1, max(1, len(layers)))
        # The largest number of files first, so that no long one is left for the end.
        stamped = [(layer, file_stamps(layer)) for layer in sorted(layers, key=lambda layer: -len(layer.files))]
        notes: list[Note] = []
        with (
            BytecodeCompiler(self._interpreter) if self._interpreter.executable else nullcontext() as compiler,
            ThreadPoolExecutor(threads, "envpack-pack") as pool,
        ):
            waiting = [pool.submit(self._build, *layer, compiler) for layer in stamped]
            try:
                bytecode = self._bytecode(stamped, uses, compiler)
                waiting += [pool.submit(self._build, *layer, compiler) for layer in bytecode]
                for done, one in enumerate(waiting, start=1):
                    note, built = one.result()
                    notes.append(note)
                    if progress is not None:
                        size = self._store.blob(note.ref.digest).stat().st_size
                        event = LayerEvent(note.ref, built, size, note.edited, note.missing, done, len(waiting))
                        progress(event)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return notes

    def _bytecode(
        self, stamped: list[tuple[LayerFiles, str]], uses: Uses | None, compiler: BytecodeCompiler | None
    ) -> list[tuple[LayerFiles, str]]:
        """Return the layers with the bytecode of those whose own have none, each with the stamps of its sources."""
        large = [(layer, stamps) for layer, stamps in stamped if not layer.has_bytecode]
        if not large or compiler is None:
            return []
        if uses is None:
            return [
                (bytecode_layer(layer, [pair for pair in layer.files if is_module(pair[0])]), stamps)
                for layer, stamps in large
            ]
        roots, names = uses
        site = site_packages(".".join(self._interpreter.version.split(".")[:2]))
        modules = {layer.name: modules_of(layer.files, site) for layer, _ in stamped if layer.kind != "local"}
        known: dict[str, tuple[str, str]] = {}
        for ones in modules.values():
            known.update(ones)
        # An edit that names nothing new must not lead to another answer.
        telling = names & {name.rpartition(".")[2] for name in known}
        parts = [f"{layer.name} {stamps}" for layer, stamps in stamped if layer.kind != "local"]
        key = "\n".join([*sorted(roots), "", *sorted(telling), "", *sorted(parts)])
        used = self._index.find_used(key)
        if used is None:
            follower = UsedModules(known, compiler, self._interpreter)
            met = follower.follow(_starts(roots, modules), telling)
            used = {layer.name: sorted(met & modules[layer.name].keys()) for layer, _ in large}
            self._index.keep_used(key, used)
        found = []
        for layer, stamps in large:
            files = (known[name] for name in used.get(layer.name, ()) if name in known)
            chosen = [(target, file) for target, file in files if is_module(target)]
            if chosen:
                found.append((bytecode_layer(layer, chosen), stamps))
        return found

    def _build(self, layer: LayerFiles, stamps: str, compiler: BytecodeCompiler | None) -> tuple[Note, bool]:
        """Return the note about a layer and whether it had to be built."""
        note = self._index.find(layer, stamps)
        if note is not None and self._store.hold_blob(note.ref.digest):
            return note, False
        written = self._store.pack_layer(layer_sources(layer, compiler), case_matters=layer.kind == "conda")
        ref = LayerRef(
            digest=written.digest,
            kind=layer.kind,
            name=layer.name,
            version=layer.version,
            size_bytes=sum(entry.size for entry in written.entries),
            files=len(written.entries),
            left_out_bytes=layer.left_out_bytes,
        )
        met = {entry.path: entry.sha256 for entry in written.entries}
        differing = (path for path, digest in layer.recorded.items() if met.get(path) not in (digest, ""))
        # A script is packed with another first line than the one that was recorded; of conda's that is allowed for.
        edited = tuple(path for path in differing if layer.kind == "conda" or not path.startswith("bin/"))
        libraries = LayerLibraries() if layer.kind == "bytecode" else layer_libraries(layer.files)
        note = Note(ref, edited, layer.missing, libraries)
        self._index.keep(layer, stamps, note)
        return note, True


def _starts(roots: Collection[str], modules: Mapping[str, Collection[str]]) -> list[str]:
    """Return the modules to begin with; of a distribution that was asked for by name those that have no dot."""
    named = [name for root in roots for name in modules.get(root, ()) if "." not in name]
    return [*roots, *named]
