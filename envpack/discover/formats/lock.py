"""The answer of discovery with the hashes of what is to be installed: `pylock.toml` (PEP 751), or requirements of pip.

Addresses and hashes come from where the installer left them (PEP 610), else from the package index. Of an index the
wheels that carry a tag of the installed one are listed, else the source distribution.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envpack.discover.dependencies import Dependencies
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.metadata import InstalledDistribution
from envpack.discover.environment.references import archive_hashes
from envpack.discover.formats.package_index import Fetch, Table, index_address, package_index
from envpack.errors import LockError

_CONNECTIONS = 8
_REMEDY = "name the index that has them with PIP_INDEX_URL, or leave them out with --exclude"
# What the answer was found for; the patch level of Python is not part of it.
_ENVIRONMENT = ("implementation_name", "sys_platform", "platform_machine")


def to_pylock(
    found: Dependencies, index: DistributionIndex, address: str, markers: Iterable[tuple[str, str]] = ()
) -> str:
    """Return the text of a `pylock.toml` that installs all distributions of an answer.

    Args:
        found: the answer.
        index: the distributions that it was found among.
        address: of the package index to ask.
        markers: the marker variables of the asked interpreter, to say for which environments the file is.

    Raises:
        LockError: some cannot be had from where they were installed; all of them are named.
    """
    minor = ".".join(found.python.split(".")[:2])
    environment = " and ".join(f"{name} == '{value}'" for name, value in markers if name in _ENVIRONMENT)
    head: Table = {
        "lock-version": "1.0",
        **({"environments": [environment]} if environment else {}),
        "requires-python": f"=={minor}.*",
        "created-by": "envpack",
    }
    packages = _locked(found, index, package_index(address))
    for package in packages:
        if "wheels" in package or "sdist" in package:
            package["index"] = index_address(address)
    lines = [line for package in packages for line in ("", "[[packages]]", *_pairs(_ordered(package)))]
    return "\n".join([*_pairs(head), *lines]) + "\n"


def to_hashed_requirements(found: Dependencies, index: DistributionIndex, address: str) -> str:
    """Return requirement lines for pip's `--require-hashes`, which wants every distribution and the hashes of each.

    Raises:
        LockError: some cannot be had from where they were installed, or have no hash as a folder has none.
    """
    packages = _locked(found, index, package_index(address))
    bare = [f"{one['name']}: installed from a {kind}" for one in packages for kind in _HASHLESS if kind in one]
    if bare:
        raise LockError(
            f"no hash of {len(bare)} of {len(packages)}: {'; '.join(bare)}",
            "install them from an archive or an index, or leave them out with --exclude",
        )
    by_name = {item.name: item for item in found.distributions}
    lines: list[str] = []
    for package in packages:
        wanted = by_name[package["name"]].requirement.partition("#")[0]
        files = package.get("wheels") or [package.get("sdist") or package["archive"]]
        hashes = {
            f"--hash={name}:{value}" for file in files for name, value in file["hashes"].items() if name in _STRONG
        }
        lines.append(" \\\n    ".join([wanted, *sorted(hashes)]))
    return "".join(f"{line}\n" for line in lines)


_HASHLESS = ("directory", "vcs")
_STRONG = ("sha256", "sha384", "sha512")  # the ones that pip takes
_ORDER = ("name", "version", "vcs", "directory", "archive", "index", "sdist", "wheels")


def _ordered(package: Table) -> Table:
    return {key: package[key] for key in _ORDER if key in package}


def _locked(found: Dependencies, index: DistributionIndex, fetch: Fetch) -> list[Table]:
    """Return an entry of each needed distribution, in the words of a lock file."""
    wanted = [item for item in map(index.get, _needed(found)) if item is not None]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        answers = list(pool.map(lambda item: _attempt(item, fetch), wanted))
    problems = [answer for answer in answers if isinstance(answer, str)]
    if problems:
        raise LockError(f"cannot lock {len(problems)} of {len(wanted)}: {'; '.join(problems)}", _REMEDY)
    return [answer for answer in answers if not isinstance(answer, str)]


def _needed(found: Dependencies) -> Iterator[str]:
    return (item.name for item in found.distributions if item.role != "optional")


def _attempt(item: InstalledDistribution, fetch: Fetch) -> Table | str:
    """Return the entry of a distribution, or what is wrong with it."""
    package: Table = {"name": item.name, "version": item.version}
    if item.direct_url:
        return _direct(package, item.direct_url) or f"{item.name}: installed from {item.direct_url.get('url')}, no hash"
    if item.source == "conda":
        return f"{item.name}: installed by conda"
    try:
        files = [file for file in fetch(item.name) if file.get("hashes")]
    except LockError as error:
        return str(error)
    if wheels := [_file(file) for file in files if _is_wheel_of(file["filename"], item)]:
        return {**package, "wheels": wheels}
    if sources := [_file(file) for file in files if _is_source_of(file["filename"], item)]:
        return {**package, "sdist": sources[0]}
    return f"{item.name} {item.version}: not on the index"


def _direct(package: Table, direct: Mapping[str, Any]) -> Table | None:
    """Return the entry of what was installed from an address of its own (PEP 610)."""
    url = str(direct.get("url", ""))
    inside = {"subdirectory": direct["subdirectory"]} if direct.get("subdirectory") else {}
    # A source tree may give another version another day: the file must not promise one.
    tree = {"name": package["name"]}
    if "vcs_info" in direct:
        vcs = direct["vcs_info"]
        asked = {"requested-revision": vcs["requested_revision"]} if vcs.get("requested_revision") else {}
        return {**tree, "vcs": {"type": vcs["vcs"], "url": url, **asked, "commit-id": vcs["commit_id"], **inside}}
    path = urllib.request.url2pathname(urlsplit(url).path)
    if "dir_info" in direct:
        return {**tree, "directory": {"path": path, "editable": bool(direct["dir_info"].get("editable")), **inside}}
    hashes = archive_hashes(direct) or (_measured(path) if url.startswith("file:") else {})
    return {**package, "archive": {"url": url, "hashes": hashes, **inside}} if hashes else None


def _measured(path: str) -> dict[str, str]:
    """Return the hash of an archive on disk, for installers that note none."""
    import hashlib

    if not os.path.isfile(path):
        return {}
    with open(path, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _file(file: Table) -> Table:
    size = {"size": file["size"]} if isinstance(file.get("size"), int) else {}
    return {"name": file["filename"], "url": file["url"], **size, "hashes": dict(sorted(file["hashes"].items()))}


def _is_wheel_of(filename: str, item: InstalledDistribution) -> bool:
    try:
        _, version, _, tags = parse_wheel_filename(filename)
        installed = Version(item.version)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    expected: set[Tag] = {tag for text in item.wheel_tags for tag in parse_tag(text)}
    return version == installed and bool(tags & expected)


def _is_source_of(filename: str, item: InstalledDistribution) -> bool:
    try:
        return parse_sdist_filename(filename)[1] == Version(item.version)
    except (InvalidSdistFilename, InvalidVersion):
        return False


def _pairs(table: Table) -> Iterable[str]:
    return (f"{key} = {_toml(value)}" for key, value in table.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list):
        return "[\n" + "".join(f"    {_toml(one)},\n" for one in value) + "]"
    return json.dumps(value)  # strings, numbers and truth values are written alike in JSON and TOML
