"""The distributions in one folder of a search path, from one process to the next.

A folder is read once. After that only the stamps are looked at that it was made from: of the folder itself (has a name
come or gone?), of each metadata folder and of each file that was read. So an installer's work, and an edit of a file in
place, are seen, and nothing else has to be read.
"""

from __future__ import annotations

import os

from envpack.discover.environment.archives import listing
from envpack.discover.environment.cache import Looks, Stamp, are_same, are_settled, load, save, stamp
from envpack.discover.environment.metadata import InstalledDistribution, read_distribution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Of each metadata folder: what it was made from, and the values of an `InstalledDistribution`; none for none.
    _Row = tuple[tuple[tuple[str, Stamp], ...], tuple[Any, ...]]
    _Rows = dict[str, _Row]

    # Of a folder: its stamp, the names of all its metadata folders, and the rows of those that are settled.
    _Known = tuple[Stamp, tuple[str, ...], _Rows]

# Where the entry points stand in the values of an `InstalledDistribution`.
_PLUGINS = InstalledDistribution.__match_args__.index("plugins")

_ENDINGS = (".dist-info", ".egg-info")
_NOTHING: _Known = (None, (), {})


def folder_distributions(folder: str) -> list[InstalledDistribution]:
    """Return the distributions whose metadata lies in a folder or an archive, sorted by the name of that metadata.

    Args:
        folder: absolute path; what is not there holds none.
    """
    looks = Looks()
    before = stamp(folder)
    if before is None:
        return []
    kept = _kept(folder)
    if os.path.isfile(folder) and kept[0] != before:
        kept = _NOTHING  # a file in an archive has no stamp of its own
    names = kept[1] if kept[0] == before else _metadata_names(folder)
    rows = {name: _row(folder, name, kept[2].get(name)) for name in names}
    known = (before if are_settled([before], looks.started_ns) else None, names, _settled(rows, looks.started_ns))
    if known != kept and (names or kept[1]):
        _memory[folder] = known
        save("folder", folder, known)
    return [InstalledDistribution(*facts) for _, facts in rows.values() if facts]


def folder_plugins(folder: str) -> list[tuple[str, str, str]]:
    """Return the entry points in groups of envpack in a folder, as group, name and object.

    As long as no name has come to the folder or gone from it, what is known is believed: installers replace the
    metadata folder of what they install, and only an edit of an `entry_points.txt` in place would be missed.
    """
    before, names, rows = _kept(folder)
    if before is not None and before == stamp(folder) and all(name in rows for name in names):
        return [plugin for _, facts in rows.values() if facts for plugin in facts[_PLUGINS]]
    return [plugin for item in folder_distributions(folder) for plugin in item.plugins]


_memory: dict[str, _Known] = {}


def _kept(folder: str) -> _Known:
    if folder not in _memory:
        _memory[folder] = load("folder", folder) or _NOTHING
    return _memory[folder]


def _metadata_names(folder: str) -> tuple[str, ...]:
    # pip renames what it could not remove: `~umpy-1.0.dist-info` is nothing that is installed.
    names = (name for name in listing(folder) if not name.startswith("~"))
    return tuple(sorted(name for name in names if name.endswith(_ENDINGS) or name == "EGG-INFO"))


def _row(folder: str, name: str, kept: _Row | None) -> _Row:
    if kept is not None and are_same(kept[0]):
        return kept
    looks = Looks()
    found = read_distribution(os.path.join(folder, name), folder, looks)
    return tuple(looks.stamps.items()), _facts(found) if found is not None else ()


def _facts(found: InstalledDistribution) -> tuple[Any, ...]:
    editable = dict(found.editable)
    return (
        *(found.metadata, found.location, found.name, found.version, found.requires, found.top_level),
        *(editable, found.is_mapped_first, found.import_folders, found.is_editable, found.plugins),
        *(found.installer, found.direct_url),
    )


def _settled(rows: _Rows, now_ns: int) -> _Rows:
    return {name: row for name, row in rows.items() if are_settled((one for _, one in row[0]), now_ns)}
