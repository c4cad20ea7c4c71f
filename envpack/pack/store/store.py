"""The store of a machine: layers by digest, each unpacked once, and the environments made from them.

```
 blobs/ layers/ locks/ tmp/      see envpack.pack.store.layers
 manifests/ID.json               what an environment consists of
 environments/ID-BASE/           the environment, ready to run; BASE names the interpreter that it stands on
 index/                          which installed distribution gave which layer (envpack.pack.store.index)
```
Any number of processes may use one store at once, and any of them may die at any moment: what is there is whole, and
what a dead process left in `tmp/` goes with the next one that writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack import settings
from envpack.errors import ManifestNotFoundError, PackFormatError, UsageError
from envpack.pack.formats.exporting import check_export, export
from envpack.pack.formats.opening import open_environment
from envpack.pack.layer.claims import Claims
from envpack.pack.layer.entries import parse_listing
from envpack.pack.layer.writer import Source, WrittenLayer
from envpack.pack.manifest import LayerRef, Manifest
from envpack.pack.store.environment import check_base, check_whole, find_executable, link_layer, write_skeleton
from envpack.pack.store.layers import LayerFolder, store_errors
from envpack.pack.store.sharing import make_folder, share_tree
from envpack.pack.store.syncing import settle, settle_file

if TYPE_CHECKING:
    from envpack.pack.store.collection import Collection
    from envpack.pack.store.verification import Verified

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that the store holds.

    Attributes:
        digest: its name.
        blob_bytes: size of its file; 0 where only the unpacked folder is there.
        unpacked: whether it is unpacked.
        ref: what a manifest of the store says about it; None where none names it.
        environments: ids of the manifests that name it.
        last_used_s: when it was last packed, received or made use of, to the hour; seconds since the epoch.
    """

    digest: str
    blob_bytes: int
    unpacked: bool
    ref: LayerRef | None
    environments: tuple[str, ...]
    last_used_s: float


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What a store holds.

    Attributes:
        layers: all layers, sorted by digest.
        manifests: all environments that are known, sorted by id.
        ready: folders of the environments that are ready to run.
        last_used_s: when each environment was last used, by id, to the hour; seconds since the epoch.
    """

    layers: tuple[StoredLayer, ...]
    manifests: tuple[Manifest, ...]
    ready: tuple[Path, ...]
    last_used_s: dict[str, float]


class Store:
    """A store of layers and environments.

    Args:
        folder: where it is; by default `envpack.settings.store_folder()`. It is made when something is written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder).absolute() if folder is not None else settings.store_folder()
        self._layers = LayerFolder(self.folder)
        self._manifests = self.folder / "manifests"
        self._environments = self.folder / "environments"
        self._ready: dict[tuple[str, str | None], str] = {}

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def work(self) -> AbstractContextManager[Path]:
        """Make a temporary folder in the store, which goes when the context ends, or when its owner has died.

        Raises:
            StoreError: the store cannot be written.
        """
        return self._layers.work()

    # Layers

    def has(self, digest: str) -> bool:
        """Tell whether the store can give or unpack the layer."""
        return self._layers.has_blob(digest) or self._layers.unpacked_path(digest).exists()

    def missing(self, manifest: Manifest) -> tuple[LayerRef, ...]:
        """Return the layers that have to be fetched before the environment can be made."""
        return tuple(ref for ref in manifest.layers if not self.has(ref.digest))

    def blob(self, digest: str) -> Path:
        """Return the layer file, to be read and sent; it may not exist."""
        return self._layers.blob_path(digest)

    def hold_blob(self, digest: str) -> bool:
        """Tell whether the layer file is there; if so, it stays as long as this process lives."""
        self._layers.uses.hold(digest, files=True)
        self._layers.uses.touch(digest)
        return self._layers.has_blob(digest)

    def pack_layer(self, sources: Iterable[Source], *, case_matters: bool = False) -> WrittenLayer:
        """Build a layer from files.

        Args:
            sources: what goes in.
            case_matters: whether names may differ in case only.

        Raises:
            DistributionFilesError: a file cannot be read or packed.
            StoreError: the store cannot be written.
        """
        return self._layers.write(sources, case_matters=case_matters)

    def add_blob(
        self, digest: str, chunks: Iterable[bytes], *, source: str = "a peer", ref: LayerRef | None = None
    ) -> None:
        """Take in a layer file, verified and unpacked while it arrives; nothing happens where it is there already.

        Args:
            digest: the layer that it must be.
            chunks: its bytes, in pieces of any size.
            source: file or peer that it comes from, for messages.
            ref: what the manifest says about it, to bound its size.

        Raises:
            PackFormatError: it is truncated, damaged or no layer file; nothing of it stays.
            StoreError: the store cannot be written.
        """
        self._layers.receive(digest, chunks, source, ref)

    # Manifests

    def add_manifest(self, manifest: Manifest) -> None:
        """Remember what an environment consists of, under its id."""
        self._hold(manifest, files=True)
        self._add_manifest(manifest)

    def _hold(self, manifest: Manifest, *, files: bool) -> None:
        self._layers.uses.hold(manifest.id, *(ref.digest for ref in manifest.layers), files=files)

    def _add_manifest(self, manifest: Manifest) -> None:
        file = self._manifests / f"{manifest.id}.json"
        self._layers.uses.touch(manifest.id)
        if file.exists():
            return
        with self._layers.work() as work:
            make_folder(self._manifests)
            (work / "manifest").write_bytes(manifest.canonical())
            os.chmod(work / "manifest", 0o444)
            settle_file(work / "manifest")
            os.rename(work / "manifest", file)

    def manifest(self, id: str) -> Manifest:
        """Return the manifest of an environment.

        Args:
            id: the id, or the first digits of it where no other begins so.

        Raises:
            ManifestNotFoundError: the store has none, or several.
        """
        matches = [name for name in self.manifest_ids() if name.startswith(id)] if id else []
        if len(matches) != 1:
            known = f"{len(matches)} begin so" if matches else "see envpack store ls"
            raise ManifestNotFoundError(f"no environment {id!r} in store {str(self.folder)!r}", known)
        return self._read_manifest(matches[0])

    def _read_manifest(self, id: str) -> Manifest:
        data = (self._manifests / f"{id}.json").read_bytes()
        if hashlib.sha256(data).hexdigest() != id:
            raise PackFormatError(f"manifest {id} in store {str(self.folder)!r} is damaged", "pack again")
        return Manifest.from_dict(json.loads(data))

    def manifest_ids(self) -> list[str]:
        """Return the ids of all environments that the store knows."""
        try:
            names = os.listdir(self._manifests)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in names)

    # Environments

    def materialise(self, manifest: Manifest, *, python: str | None = None) -> Path:
        """Return the folder of the environment, made now if it is not there.

        Its `bin/python` runs as it is, without activation. Whoever asks first makes it, others wait.

        Args:
            manifest: the environment.
            python: interpreter of this machine to stand on; by default one that fits is looked for.

        Raises:
            IncompatiblePackError: this machine has no interpreter that fits.
            UsageError: an interpreter is named, and the environment brings its own.
            PrefixTooLongError: the path of the store does not fit into files of conda packages.
            LayerMissingError: a layer is not in the store.
            LayerConflictError: two layers hold the same path with different content.
            PackFormatError: the file of a layer is damaged, or none has the interpreter that is to be brought.
            StoreError: the store cannot be written.
        """
        key = (manifest.id, python)
        ready = self._ready.get(key)
        # Through the link: an environment whose interpreter is gone is none.
        if ready is not None and os.path.exists(f"{ready}/bin/python"):
            uses = self._layers.uses
            if uses.holds_environment(Path(ready)) or uses.hold_environment(Path(ready)):
                uses.touch(os.path.basename(ready))
                return Path(ready)
        executable = find_executable(manifest, python)
        place = str(self._environments) if manifest.is_placed else ""
        target = self._environments / f"{manifest.id[:32]}-{_stamp(executable, place)}"
        # Twice at most, unless somebody collects it as fast as it is made.
        while not (_is_whole(target) and self._layers.uses.hold_environment(target)):
            self._make(manifest, executable, target)
        self._layers.uses.touch(target.name)
        self._ready[key] = str(target)
        return target

    def _make(self, manifest: Manifest, executable: str, target: Path) -> None:
        base = check_base(manifest, executable)
        self._hold(manifest, files=False)
        with self._layers.making(target.name):
            if _is_whole(target):
                return
            self._add_manifest(manifest)
            folders = [self._layers.unpack(ref) for ref in manifest.layers]
            with self._layers.work() as work:
                make_folder(self._environments)
                made = work / "environment"
                made.mkdir(0o755)
                write_skeleton(made, manifest, base)
                claims = Claims(manifest)
                for ref, folder in zip(manifest.layers, folders, strict=True):
                    listing = parse_listing(self._layers.listing(ref.digest), judged=True)
                    link_layer(ref, listing, folder, made, claims, str(target))
                check_whole(made, manifest)
                share_tree(made, self.folder)
                settle(made)
                if target.exists():
                    os.rename(target, work / "broken")  # its interpreter is gone
                os.rename(made, target)
            _log.info("made environment %s in %s", manifest.id, target)

    # Packs

    def export(self, manifest: Manifest, file: str | os.PathLike[str]) -> int:
        """Write the environment into one file and return its size in bytes.

        Args:
            manifest: the environment.
            file: a pack if its name ends with `.tar.zst`, a plain archive if it ends with `.tar.gz` or `.tgz`.

        Raises:
            UsageError: the name ends otherwise, or there is no such folder.
            LayerMissingError: the file of a layer is not in the store.
            LayerConflictError: two layers hold the same path with different content; noticed for a plain archive.
            StoreError: the file cannot be written.
        """
        target = Path(file).absolute()
        check_export(target)
        self._hold(manifest, files=True)
        blobs = [self._layers.require_blob(ref) for ref in manifest.layers]
        with store_errors(target.parent, "folder"):
            return export(target, manifest, blobs)

    def import_pack(self, file: str | os.PathLike[str]) -> Manifest:
        """Take in all layers of a file that `export` wrote; those that are there are skipped.

        Raises:
            UsageError: there is no such file.
            PackFormatError: the file holds no environment, is truncated or damaged; the layers before that stay.
            StoreError: the store cannot be written.
        """
        with ExitStack() as stack:
            opened = open_environment(stack, file)
            self._hold(opened.manifest, files=True)
            for ref, chunks in opened.layer_files():
                self.add_blob(ref.digest, chunks, source=str(file), ref=ref)
        self.add_manifest(opened.manifest)
        return opened.manifest

    def release(self) -> None:
        """Let go of all that this process has asked for, as its end does: from now on it may be collected."""
        self._layers.uses.release()

    def share(self, group: int | None = None) -> None:
        """Make the store one that a group of users shares; what it holds already becomes readable for them.

        Args:
            group: id of the group; by default the one that the folder has.

        Raises:
            StoreError: the folder cannot be made, or is another user's.
        """
        from envpack.pack.store.sharing import share_store

        with store_errors(self.folder):
            share_store(self.folder, group)

    # Housekeeping

    def ls(self) -> StoreContent:
        """Return what the store holds."""
        manifests = tuple(self._all_manifests())
        refs = {ref.digest: ref for manifest in manifests for ref in manifest.layers}
        layers = tuple(self._stored(digest, refs.get(digest), manifests) for digest in self._layers.digests())
        ready = tuple(sorted(self._environments.iterdir())) if self._environments.exists() else ()
        used = {manifest.id: self._last_used_s(manifest, ready) for manifest in manifests}
        return StoreContent(layers, manifests, ready, used)

    def _last_used_s(self, manifest: Manifest, ready: tuple[Path, ...]) -> float:
        files = [folder for folder in ready if folder.name.startswith(f"{manifest.id[:32]}-")]
        files.append(self._manifests / f"{manifest.id}.json")
        return max(self._layers.uses.last_used_s(file.name.removesuffix(".json"), file) for file in files)

    def collect(
        self, *, max_size_bytes: float | None = None, older_than_s: float | None = None, is_dry: bool = False
    ) -> Collection:
        """Remove what was used longest ago, and nothing that is in use.

        In use is what a living process has asked a store for, or runs from, and all that this needs. Others may use the
        store meanwhile.

        Args:
            max_size_bytes: remove until the store is no larger.
            older_than_s: remove what was not used for so many seconds.
            is_dry: only tell what would be removed.

        Raises:
            UsageError: neither size nor age is given.
            StoreError: the store cannot be written.
        """
        from envpack.pack.store.collection import Collector, now_minus

        if max_size_bytes is None and older_than_s is None:
            raise UsageError("neither a size nor an age is given", "such as --max-size 20GB or --older-than 30d")
        manifests = {manifest.id: manifest for manifest in self._all_manifests()}
        since = None if older_than_s is None else now_minus(older_than_s)
        return Collector(self.folder, self._layers).collect(
            manifests, max_size_bytes=max_size_bytes, unused_since_s=since, is_dry=is_dry
        )

    def verify(self, threads: int | None = None) -> Iterator[Verified]:
        """Read every layer file, layer and environment again and compare them with their digests.

        Args:
            threads: how many things to read at once; by default as many as there are processors.

        Yields:
            What was compared, one thing after the other, and all that is wrong with it.
        """
        from envpack.pack.store.verification import Verifier

        return Verifier(self.folder, self._layers, tuple(self._all_manifests())).verify(threads)

    def repair(self, verified: Verified) -> bool:
        """Remove something damaged, so that the next use fetches or makes it again.

        Args:
            verified: what `verify` found damaged.

        Returns:
            Whether it is gone; not if a process uses it, or if it is another user's.

        Raises:
            StoreError: the store cannot be written.
        """
        from envpack.pack.store.collection import Collector

        return Collector(self.folder, self._layers).remove(verified.kind, verified.name)

    def _all_manifests(self) -> Iterator[Manifest]:
        for id in self.manifest_ids():
            with suppress(FileNotFoundError):  # collected meanwhile
                yield self._read_manifest(id)

    def _stored(self, digest: str, ref: LayerRef | None, manifests: tuple[Manifest, ...]) -> StoredLayer:
        blob = self._layers.blob_path(digest)
        users = tuple(manifest.id for manifest in manifests if any(layer.digest == digest for layer in manifest.layers))
        size = blob.stat().st_size if blob.exists() else 0
        unpacked = self._layers.unpacked_path(digest)
        used_s = self._layers.uses.last_used_s(digest, blob if size else unpacked)
        return StoredLayer(digest, size, unpacked.exists(), ref, users, used_s)


def _is_whole(environment: Path) -> bool:
    return os.path.exists(environment / "bin" / "python") and os.path.exists(environment / "pyvenv.cfg")


def _stamp(executable: str, place: str) -> str:
    """Return what changes when an environment has to be made anew.

    Args:
        executable: the interpreter that it stands on: another one, or the same one replaced; empty if it has its own.
        place: where it lies, if that stands in its files: the store may have been moved; else empty.
    """
    real = os.path.realpath(executable) if executable else ""
    changed = os.stat(real).st_mtime_ns if real else 0
    parts = [real, str(changed), *([place] if place else [])]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]
