"""The answer of discovery in the formats of other tools: a PEP 723 block, an `environment.yml` of conda.

Both name what the code itself needs (direct and hidden distributions), pinned; their installers find the rest. What is
written twice from one answer has the same bytes.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping

from packaging.utils import canonicalize_name

from envpack.discover.dependencies import Dependencies


def to_pep723(found: Dependencies) -> str:
    """Return the block of inline script metadata that lets `uv run` and `pipx run` install what the script needs."""
    lines = ["/// script", f'requires-python = "=={_minor(found.python)}.*"', "dependencies = ["]
    lines += [f'    "{requirement}",' for requirement in found.requirements()]
    lines += ["]", "///"]
    return "".join(f"# {line}\n" for line in lines)


def to_conda(found: Dependencies, names: Mapping[str, str] | None = None) -> str:
    """Return an `environment.yml`: what conda installed as its packages, everything else under `pip`.

    Args:
        found: the answer.
        names: conda's names of distributions that have another name there; see `conda_names`.
    """
    wanted = [item for item in found.distributions if item.role in ("direct", "hidden")]
    by_conda = [item for item in wanted if item.source == "conda"]
    by_pip = [item for item in wanted if item.source != "conda"]
    lines = ["channels:", "  - conda-forge", "dependencies:", f"  - python={found.python}"]
    lines += sorted(f"  - {(names or {}).get(item.name, item.name)}={item.version}" for item in by_conda)
    if by_pip:
        lines += ["  - pip", "  - pip:"]
        lines += [f"      - {item.name}=={item.version}" for item in by_pip]
    return "".join(line + "\n" for line in lines)


def conda_names(prefix: str) -> dict[str, str]:
    """Return conda's package name for each distribution in a conda environment; empty for other environments.

    Args:
        prefix: folder of the environment.
    """
    found: dict[str, str] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*.json"))):
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
            package, files = record["name"], record["files"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # history and half-written records are no packages
        for name in files:
            folder, _, last = name.rpartition("/")
            if last in ("METADATA", "PKG-INFO") and folder.endswith((".dist-info", ".egg-info")):
                distribution = os.path.basename(folder).partition("-")[0]
                found[str(canonicalize_name(distribution))] = package
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
