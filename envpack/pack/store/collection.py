"""Collection: taking out of a store what was used longest ago, while others use it.

```
 look      what is there, how large, last used when, in use by whom          nobody is kept waiting
 decide    envpack.pack.store.plan                                           pure
 take      with collect.lock: look again who uses what, decide again, and    nobody can begin to use anything
           rename what goes into tmp/
 delete                                                                      nobody is kept waiting
```
Who needs something says so before looking whether it is there (`envpack.pack.store.uses`); that takes the same lock.
So it either finds the thing, which then stays, or finds nothing and makes it again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from envpack.errors import StoreError
from envpack.pack.manifest import Manifest
from envpack.pack.store.layers import LayerFolder
from envpack.pack.store.locks import locked, try_lock
from envpack.pack.store.plan import Part, PartKind, Plan, Removal, plan
from envpack.pack.store.processes import running_environments


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection did, or would do.

    Attributes:
        plan: what went, with sizes.
        in_use: names of the environments that stayed because somebody uses them.
        others: how many things stayed because they are another user's.
    """

    plan: Plan
    in_use: tuple[str, ...]
    others: int


class Collector:
    """Takes things out of one store.

    Args:
        root: the store.
        layers: its layers.
        manifests: what it knows of environments, by id.
        proc: where the kernel shows its processes.
    """

    def __init__(self, root: Path, layers: LayerFolder, proc: str = "/proc") -> None:
        self._root = root
        self._layers = layers
        self._proc = proc

    def collect(
        self,
        manifests: Mapping[str, Manifest],
        *,
        max_size_bytes: float | None,
        unused_since_s: float | None,
        is_dry: bool,
    ) -> Collection:
        """Remove what is neither young nor used, see `Store.collect`."""
        parts = self._parts(manifests)

        def decide(held: Mapping[str, bool]) -> Plan:
            return plan(parts, held, max_size_bytes=max_size_bytes, unused_since_s=unused_since_s)

        if is_dry:
            with ExitStack() as claims:
                held = self._held(manifests, claims)
            return self._answer(decide(held), parts, held)
        with self._layers.work() as work:
            with locked(self._root / "locks" / "collect.lock"), ExitStack() as claims:
                held = self._held(manifests, claims)
                chosen = decide(held)
                back = self._take(chosen, work)
            self._forget_notes()
        gone = tuple(removal for removal in chosen.removals if removal.part.name not in back)
        freed = sum(removal.freed_bytes for removal in gone)
        return self._answer(Plan(gone, chosen.before_bytes, chosen.before_bytes - freed), parts, {**held, **back})

    def remove(self, kind: PartKind, name: str) -> bool:
        """Remove one thing unless somebody uses it; tell whether it is gone."""
        part = self._part(kind, name, name, ())
        with self._layers.work() as work, locked(self._root / "locks" / "collect.lock"), ExitStack() as claims:
            held = self._held(None, claims)
            if not part.removable or name in held:
                return False
            back = self._take(Plan((Removal(part, 0),), 0, 0), work)
        return not back

    def _parts(self, manifests: Mapping[str, Manifest]) -> list[Part]:
        """Return what can go; notes and locks are not worth counting."""
        labels = {ref.digest: str(ref) for manifest in manifests.values() for ref in manifest.layers}
        parts = []
        for kind, name in self._names():
            named = manifests[name].layers if kind == "manifest" and name in manifests else ()
            parts.append(self._part(kind, name, labels.get(name, name[:12]), tuple(ref.digest for ref in named)))
        return parts

    def _names(self) -> Iterator[tuple[PartKind, str]]:
        for name in _listed(self._root / "blobs"):
            yield "file", name.removesuffix(".tar.zst")
        for name in _listed(self._root / "layers"):
            if not name.endswith(".json"):
                yield "layer", name
        for name in _listed(self._root / "manifests"):
            yield "manifest", name.removesuffix(".json")
        for name in _listed(self._root / "environments"):
            yield "environment", name

    def _part(self, kind: PartKind, name: str, label: str, named: tuple[str, ...]) -> Part:
        path = self._paths(kind, name)[0]
        inodes: dict[int, int] = {}
        for place in self._paths(kind, name):
            inodes |= _inodes(place)
        return Part(
            kind=kind,
            name=name,
            label=label,
            last_used_s=self._layers.uses.last_used_s(name, path),
            inodes=inodes,
            layers=named,
            removable=_is_ours(path),
        )

    def _paths(self, kind: PartKind, name: str) -> tuple[Path, ...]:
        match kind:
            case "file":
                return (self._layers.blob_path(name),)
            case "layer":
                # The folder first: whoever sees it must find its list.
                return self._layers.unpacked_path(name), self._root / "layers" / f"{name}.json"
            case "manifest":
                return (self._root / "manifests" / f"{name}.json",)
            case _:
                return (self._root / "environments" / name,)

    def _held(self, known: Mapping[str, Manifest] | None, claims: ExitStack) -> dict[str, bool]:
        """Return what is in use: by processes that say so, or run from it, and by manifests that came meanwhile.

        Args:
            known: the manifests that were there before; None: what they need does not matter.
            claims: until it is closed, nobody begins to use an environment that is not in use.
        """
        held = self._layers.uses.held()
        held.update(dict.fromkeys(running_environments(self._proc), False))
        for name in _listed(self._root / "environments"):
            descriptor = _claimed(self._root / "environments" / name)
            if descriptor is None:
                held[name] = False
            else:
                claims.callback(os.close, descriptor)
        for name in _listed(self._root / "manifests"):
            if known is not None and name.removesuffix(".json") not in known:
                layers = json.loads((self._root / "manifests" / name).read_bytes())["layers"]
                held.update({layer["digest"]: True for layer in layers})
        return held

    def _take(self, chosen: Plan, work: Path) -> dict[str, bool]:
        """Rename what goes into a temporary folder; return the environments that somebody was quick enough to start."""
        for removal in chosen.removals:
            part = removal.part
            for path in self._paths(part.kind, part.name):
                with suppress(FileNotFoundError):
                    # Under its own name: a process that runs from it shows that name, wherever it lies.
                    os.rename(path, work / path.name)
            self._remove_lock(part.name)
        taken = {removal.part.name for removal in chosen.removals if removal.part.kind == "environment"}
        back = taken & running_environments(self._proc).keys() if taken else set()
        for name in back:
            os.rename(work / name, self._root / "environments" / name)
        return dict.fromkeys(back, False)

    def _remove_lock(self, name: str) -> None:
        """Remove the lock file of what is gone, unless somebody waits to make it again."""
        file = self._root / "locks" / f"{name}.lock"
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
            if try_lock(descriptor):
                os.unlink(file)
            os.close(descriptor)

    def _forget_notes(self) -> None:
        """Remove the notes about layers whose files are gone; they would be ignored, and nobody else removes them."""
        for place, _, names in os.walk(self._root / "index"):
            for name in names:
                with suppress(OSError, ValueError, KeyError, TypeError):
                    file = Path(place, name)
                    if not self._layers.has_blob(json.loads(file.read_bytes())["layer"]["digest"]):
                        file.unlink()

    def _answer(self, chosen: Plan, parts: list[Part], held: Mapping[str, bool]) -> Collection:
        in_use = sorted(part.name for part in parts if part.kind == "environment" and part.name in held)
        return Collection(chosen, tuple(in_use), sum(not part.removable for part in parts))


def now_minus(age_s: float) -> float:
    """Return the moment so many seconds ago, in seconds since the epoch."""
    return time.time() - age_s


def _claimed(environment: Path) -> int | None:
    """Return a descriptor that keeps others from beginning to use an environment, or None if somebody uses it."""
    try:
        descriptor = os.open(environment / "pyvenv.cfg", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(environment, os.O_RDONLY | os.O_CLOEXEC)  # broken: nobody can use it
    except PermissionError:
        return None
    if try_lock(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def _is_ours(path: Path) -> bool:
    try:
        return os.geteuid() in (0, os.lstat(path).st_uid)
    except FileNotFoundError:
        return True


def _inodes(path: Path) -> dict[int, int]:
    """Return the bytes on the disk of a file, or of all that is in a folder, by inode."""
    found: dict[int, int] = {}
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        found[status.st_ino] = status.st_blocks * 512
        if not path.is_dir() or path.is_symlink():
            return found
        pending = [str(path)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    found[status.st_ino] = status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    return found


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {str(folder)!r}: {error.strerror}", "ask its owner") from error
