"""The answer of discovery in the formats of other tools: requirements of pip, a PEP 723 block, an `environment.yml`.

All name what the code itself needs (direct and hidden distributions), pinned; their installers find the rest. What is
written twice from one answer has the same bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote, urlsplit

from envpack.discover.dependencies import Dependencies, Distribution
from envpack.discover.environment.conda import CondaPackage
from envpack.discover.environment.names import normalized

_CHANNEL = "conda-forge"
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def to_requirements(found: Dependencies) -> str:
    """Return the lines of a requirements file; a development install is asked for as one."""
    return "".join(f"{_line(item)}\n" for item in _wanted(found))


def to_pep723(found: Dependencies) -> str:
    """Return the block of inline script metadata that lets `uv run` and `pipx run` install what the script needs."""
    lines = ["/// script", f'requires-python = "=={_minor(found.python)}.*"', "dependencies = ["]
    lines += [f"    {json.dumps(requirement)}," for requirement in found.requirements()]
    lines += ["]", "///"]
    return "".join(f"# {line}\n" for line in lines)


def to_conda(found: Dependencies, packages: Sequence[CondaPackage] = ()) -> str:
    """Return an `environment.yml`: what conda installed as its packages, everything else under `pip`.

    Args:
        found: the answer.
        packages: what conda installed in the asked environment, for its names and channels.
    """
    names = {distribution: package for package in packages for distribution in _distributions(package)}
    by_conda = [item for item in _wanted(found) if item.source == "conda"]
    by_pip = [item for item in _wanted(found) if item.source != "conda"]
    known = [names[item.name] for item in by_conda if item.name in names]
    lines = [f"name: {_plain(_stem(found.target))}", "channels:"]
    lines += [f"  - {_plain(channel)}" for channel in _channels(known)]
    lines += ["dependencies:", f"  - python={found.python}"]
    lines += sorted(
        f"  - {names[item.name].name if item.name in names else item.name}=={item.version}" for item in by_conda
    )
    if by_pip:
        lines += ["  - pip", "  - pip:"]
        lines += [f"      - {_plain(_line(item))}" for item in by_pip]
    return "".join(line + "\n" for line in lines)


def _wanted(found: Dependencies) -> list[Distribution]:
    return [item for item in found.distributions if item.role in ("direct", "hidden")]


def _line(item: Distribution) -> str:
    parts = urlsplit(item.url)
    if item.source != "editable" or parts.scheme != "file":
        return item.requirement
    path = unquote(parts.path)
    extras = f"[{','.join(item.extras)}]" if item.extras else ""
    # Options of a requirements file are split at blanks.
    return f"-e {item.url if re.search(r'[^-+./~@,:=A-Za-z0-9_]', path) else path}{extras}"


def _distributions(package: CondaPackage) -> Iterator[str]:
    for name in package.metadata:
        yield normalized(name.partition("-")[0])


def _channels(packages: Iterable[CondaPackage]) -> list[str]:
    """Return the channels that packages came from, as people name them."""
    found: set[str] = set()
    for package in packages:
        try:
            with open(package.record, encoding="utf-8") as file:
                channel = str(json.load(file).get("channel") or _CHANNEL)
        except (OSError, ValueError, AttributeError):
            channel = _CHANNEL
        # https://conda.anaconda.org/conda-forge/linux-64: the platform is not part of the channel.
        channel = re.sub(r"/(noarch|(linux|osx|win)-\w+)/?$", "", channel)
        found.add(re.sub(r"^https://conda\.anaconda\.org/", "", channel))
    return sorted(found) or [_CHANNEL]


def _stem(target: str) -> str:
    """Return a name for the environment of a target: `report` for `src/report.py:area`."""
    last = os.path.basename(target.rstrip("/")) or "environment"
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last.partition(".")[0]).strip("-") or "environment"


def _plain(text: str) -> str:
    """Quote what YAML would read otherwise; a string of JSON is one of YAML."""
    is_plain = re.fullmatch(r"[A-Za-z][\w.+/-]*(==[\w.+!]+)?", text) and text.lower() not in _YAML_WORDS
    return text if is_plain else json.dumps(text)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
