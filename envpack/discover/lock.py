"""The answer of discovery as a lock file (`pylock.toml`, PEP 751): where each distribution can be had, with its hash.

An installer leaves no address of what it took from an index, so the index is asked: this is the one part of discovery
that uses a network. The wheels that carry a tag of the installed one are listed, else the source distribution.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envpack.discover.dependencies import Dependencies
from envpack.discover.distributions import DistributionIndex
from envpack.discover.metadata import InstalledDistribution
from envpack.errors import LockError

_TIMEOUT_S = 30.0
_CONNECTIONS = 8
_ACCEPT = "application/vnd.pypi.simple.v1+json"

Table = dict[str, Any]
Fetch = Callable[[str], list[Table]]


def to_pylock(found: Dependencies, index: DistributionIndex, fetch: Fetch) -> str:
    """Return the text of a `pylock.toml` that installs all distributions of an answer.

    Args:
        found: the answer.
        index: the distributions that it was found among.
        fetch: gives the files of a project as the simple index lists them; see `package_index`.

    Raises:
        LockError: some cannot be had from where they were installed; all of them are named.
    """
    wanted = [item for item in map(index.get, _needed(found)) if item is not None]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        answers = list(pool.map(lambda item: _attempt(item, fetch), wanted))
    problems = [answer for answer in answers if isinstance(answer, str)]
    if problems:
        raise LockError(f"cannot lock {len(problems)} of {len(wanted)}: {'; '.join(problems)}", _REMEDY)
    minor = ".".join(found.python.split(".")[:2])
    head: Table = {"lock-version": "1.0", "created-by": "envpack", "requires-python": f"=={minor}.*"}
    packages = [answer for answer in answers if not isinstance(answer, str)]
    lines = [*_pairs(head), *(line for package in packages for line in ("", "[[packages]]", *_pairs(package)))]
    return "\n".join(lines) + "\n"


_REMEDY = "name the index that has them with PIP_INDEX_URL, or leave them out with --exclude"


def package_index(url: str) -> Fetch:
    """Return what asks a package index for the files of a project (PEP 691).

    Args:
        url: of its simple API; a user and password in it are sent, and never shown.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/", "", ""))
    headers = {"Accept": _ACCEPT}
    if parts.username is not None:
        user = unquote(f"{parts.username}:{parts.password or ''}")
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"

    def fetch(project: str) -> list[Table]:
        address = urljoin(bare, f"{project}/")
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                files = json.load(answer)["files"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise LockError(f"{address}: {type(error).__name__}: {error}") from error
        return [{**item, "url": urljoin(address, item["url"]).partition("#")[0]} for item in files]

    return fetch


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
    if "vcs_info" in direct:
        vcs = direct["vcs_info"]
        return {**package, "vcs": {"type": vcs["vcs"], "url": url, "commit-id": vcs["commit_id"], **inside}}
    if "dir_info" in direct:
        path = urllib.request.url2pathname(urlsplit(url).path)
        return {**package, "directory": {"path": path, "editable": bool(direct["dir_info"].get("editable")), **inside}}
    hashes = direct.get("archive_info", {}).get("hashes")
    return {**package, "archive": {"url": url, "hashes": hashes, **inside}} if hashes else None


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
