"""Verification of a store: every file of every layer file, layer and environment, compared with its digest.

In threads: hashing and decoding let go of the interpreter lock. An environment's files are links to those of its
layers; one that was compared there is not read a second time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envpack.errors import PackFormatError
from envpack.pack.layer.claims import skeleton_paths
from envpack.pack.layer.entries import EXECUTABLE, FOLDER, LINK, Entry, Listing, entries_digest, parse_listing
from envpack.pack.layer.reader import LayerReader
from envpack.pack.manifest import Manifest
from envpack.pack.store.layers import LayerFolder
from envpack.pack.store.plan import PartKind


@dataclass(frozen=True, slots=True)
class Verified:
    """Something that was compared with its digest.

    Attributes:
        kind: `file` of a layer, `layer` unpacked, or `environment`.
        name: digest, or name of the folder.
        label: for people, such as `numpy 2.4.6`.
        problems: all that is wrong with it, with the files; empty if nothing is.
        done: how many things are done.
        total: how many there are.
    """

    kind: PartKind
    name: str
    label: str
    problems: tuple[str, ...]
    done: int
    total: int


class Verifier:
    """Compares what one store holds.

    Args:
        root: the store.
        layers: its layers.
        manifests: what it knows of environments.
    """

    def __init__(self, root: Path, layers: LayerFolder, manifests: tuple[Manifest, ...]) -> None:
        self._environments = root / "environments"
        self._layers = layers
        self._manifests = {manifest.id[:32]: manifest for manifest in manifests}
        self._labels = {ref.digest: str(ref) for manifest in manifests for ref in manifest.layers}
        self._whole: dict[tuple[int, int], str] = {}

    def verify(self, threads: int | None) -> Iterator[Verified]:
        """Compare everything, see `Store.verify`."""
        digests = self._layers.digests()
        files = [digest for digest in digests if self._layers.has_blob(digest)]
        folders = [digest for digest in digests if self._layers.unpacked_path(digest).exists()]
        made = sorted(os.listdir(self._environments)) if self._environments.exists() else []
        total = len(files) + len(folders) + len(made)
        done = 0
        with ThreadPoolExecutor(threads or os.cpu_count(), "envpack-verify") as pool:
            # The environments last: by then it is known which files are as they should be.
            things: tuple[tuple[PartKind, list[str]], ...] = (
                ("file", files),
                ("layer", folders),
                ("environment", made),
            )
            for kind, names in things:
                for name, problems in zip(names, pool.map(partial(self._problems, kind), names), strict=True):
                    done += 1
                    label = self._labels.get(name, name[:12])
                    yield Verified(kind, name, label, tuple(problems), done, total)

    def _problems(self, kind: PartKind, name: str) -> list[str]:
        """Return all that is wrong with one thing; nothing if it was removed meanwhile."""
        check = {"file": self._check_file, "layer": self._check_layer}.get(kind, self._check_environment)
        try:
            return list(check(name))
        except (PackFormatError, OSError) as error:
            return [str(error)] if self._is_there(kind, name) else []

    def _is_there(self, kind: PartKind, name: str) -> bool:
        folder = self._environments / name if kind == "environment" else self._layers.unpacked_path(name)
        return self._layers.has_blob(name) if kind == "file" else folder.exists()

    def _check_file(self, digest: str) -> Iterator[str]:
        with open(self._layers.blob_path(digest), "rb", buffering=0) as stream:
            LayerReader(stream, digest, stream.name).check()
        yield from ()

    def _check_layer(self, digest: str) -> Iterator[str]:
        data = self._layers.listing(digest)
        if entries_digest(data) != digest:
            yield "its entry list has another digest"
            return
        listing = parse_listing(data)
        folder = self._layers.unpacked_path(digest)
        yield from self._differing(folder, listing)
        yield from _surplus(folder, {entry.path for entry in listing.entries})

    def _check_environment(self, name: str) -> Iterator[str]:
        manifest = self._manifests.get(name[:32])
        if manifest is None:
            yield "its manifest is gone"
            return
        folder = self._environments / name
        known = set(skeleton_paths(manifest))
        for path in sorted(known):
            if not os.path.lexists(folder / path):
                yield f"{path!r} is missing"
        for ref in manifest.layers:
            data = self._any_listing(ref.digest)
            if data is None:
                return  # the layer is gone, and with it what is known of its files
            listing = parse_listing(data)
            known.update(entry.path for entry in listing.entries)
            for problem in self._differing(folder, listing):
                yield f"{ref}: {problem}"
        yield from _surplus(folder, known, caches=True)

    def _any_listing(self, digest: str) -> bytes | None:
        """Return the entry list of a layer that is unpacked, or else there as a file."""
        with suppress(FileNotFoundError):
            return self._layers.listing(digest)
        with suppress(FileNotFoundError), open(self._layers.blob_path(digest), "rb", buffering=0) as stream:
            return LayerReader(stream, digest, stream.name).listing
        return None

    def _differing(self, folder: Path, listing: Listing) -> Iterator[str]:
        """Yield what differs from the list; of files that are written for each environment only that they are there."""
        is_environment = folder.parent == self._environments
        rewritten = {placeholder.path for placeholder in listing.placeholders} if is_environment else set()
        for entry in listing.entries:
            try:
                problem = self._difference(folder / entry.path, entry, entry.path in rewritten)
            except FileNotFoundError:
                problem = "is missing"
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
            if problem:
                yield f"{entry.path!r} {problem}"

    def _difference(self, path: Path, entry: Entry, is_rewritten: bool) -> str:
        status = os.lstat(path)
        if entry.mode == LINK:
            is_same = stat.S_ISLNK(status.st_mode) and os.readlink(path) == entry.target
            return "" if is_same else f"is no link to {entry.target!r}"
        if entry.mode == FOLDER:
            return "" if stat.S_ISDIR(status.st_mode) else "is no folder"
        if not stat.S_ISREG(status.st_mode):
            return "is no file"
        if bool(status.st_mode & 0o100) != (entry.mode == EXECUTABLE):
            return "has other permissions"
        if is_rewritten or self._whole.get((status.st_dev, status.st_ino)) == entry.sha256:
            return ""
        if status.st_size != entry.size:
            return f"has {status.st_size} bytes, {entry.size} expected"
        with open(path, "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != entry.sha256:
                return "has other content"
        self._whole[status.st_dev, status.st_ino] = entry.sha256
        return ""


def _surplus(folder: Path, known: set[str], *, caches: bool = False) -> Iterator[str]:
    """Yield the files that do not belong there; what Python caches does where `caches` is true."""
    for place, folders, files in os.walk(folder):
        for name in files + [name for name in folders if os.path.islink(os.path.join(place, name))]:
            path = os.path.relpath(os.path.join(place, name), folder)
            if path not in known and not (caches and "__pycache__" in path):
                yield f"{path!r} does not belong there"
