"""Who put which path into an environment that is made of several layers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from envpack.errors import LayerConflictError
from envpack.pack.layer.entries import FOLDER, Entry
from envpack.pack.manifest import LayerRef, Manifest


def skeleton_paths(manifest: Manifest) -> set[str]:
    """Return the paths of an environment that no layer may have."""
    if manifest.has_interpreter:
        return {"pyvenv.cfg"}
    return {"bin/python", "bin/python3", f"bin/python{manifest.python}", "lib64", "pyvenv.cfg"}


class Claims:
    """Who put which path into an environment; two layers may share a path only with the same content.

    Args:
        manifest: the environment, of which `write_skeleton` makes the first files and folders.
        more: other paths that no layer may have.
    """

    def __init__(self, manifest: Manifest, more: Iterable[str] = ()) -> None:
        taken = {*skeleton_paths(manifest), *more}
        self._taken: dict[str, tuple[Entry, LayerRef | str]]
        self._taken = dict.fromkeys(taken, (Entry("", 0, 0, "", ""), "envpack"))
        library = f"lib/python{manifest.python}"
        self.folders: set[str] = {"", "bin", "lib", library, f"{library}/site-packages"}

    def claim(self, entry: Entry, layer: LayerRef) -> bool:
        """Claim a path for a layer.

        Returns:
            Whether it is to be made; false where another layer has put the same content there.

        Raises:
            LayerConflictError: another layer has put something else there.
        """
        other, owner = self._taken.setdefault(entry.path, (entry, layer))
        if other is entry:
            self._claim_parents(entry, layer)
            return entry.mode != FOLDER or entry.path not in self.folders
        if other == entry:
            return False
        raise LayerConflictError(
            f"{owner} and {layer} both hold {entry.path!r}, with different content",
            "leave one of them out with --exclude",
        )

    def _claim_parents(self, entry: Entry, layer: LayerRef) -> None:
        if entry.mode != FOLDER and entry.path in self.folders:
            raise LayerConflictError(f"{layer} holds {entry.path!r} as a file, the environment has it as a folder")
        parent = entry.path.rpartition("/")[0]
        while parent not in self.folders:
            other = self._taken.get(parent)
            if other is not None and other[0].mode != FOLDER:
                raise LayerConflictError(f"{layer} holds {parent!r} as a folder, {other[1]} as a file")
            self.folders.add(parent)
            parent = parent.rpartition("/")[0]
