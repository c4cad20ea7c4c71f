"""What a package index lists of a project: the files, their addresses and hashes (simple API, JSON or HTML).

An installer leaves no address of what it took from an index, so the index is asked again: this is the one part of
discovery that uses a network. An index may also be a folder (`file://`), as mirrors for closed networks are.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from envpack.errors import LockError

_TIMEOUT_S = 30.0
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"

Table = dict[str, Any]
Fetch = Callable[[str], list[Table]]


def package_index(url: str) -> Fetch:
    """Return what asks a package index for the files of a project: name, address, hashes, size where it is stated.

    Args:
        url: of its simple API; a user and password in it are sent, and never shown.
    """
    parts = urlsplit(url)
    bare = index_address(url)
    headers = {"Accept": _ACCEPT}
    if parts.username is not None:
        user = unquote(f"{parts.username}:{parts.password or ''}")
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"

    def fetch(project: str) -> list[Table]:
        address = urljoin(bare, f"{project}/")
        request = urllib.request.Request(f"{address}index.html" if parts.scheme == "file" else address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                files = _files(answer.read())
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise LockError(f"{address}: {type(error).__name__}: {error}") from error
        return [{**item, "url": urljoin(address, item["url"]).partition("#")[0]} for item in files]

    return fetch


def index_address(url: str) -> str:
    """Return the address of an index without user and password, ending with a slash."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/", "", ""))


def _files(page: bytes) -> list[Table]:
    text = page.decode("utf-8")
    if text.lstrip().startswith("{"):
        return [item for item in json.loads(text)["files"] if item["filename"] and item["url"]]
    links = _Links()
    links.feed(text)
    links.close()
    return links.files


class _Links(HTMLParser):
    """Collects the files that a page of the older form of the simple API (PEP 503) links to."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[Table] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href") or ""
        if tag == "a" and href:
            address, _, fragment = href.partition("#")
            algorithm, _, digest = fragment.partition("=")
            name = unquote(urlsplit(address).path).rpartition("/")[2]
            self.files.append({"filename": name, "url": address, "hashes": {algorithm: digest} if digest else {}})
