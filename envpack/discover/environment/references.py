"""Where a distribution came from that no index gave: its direct reference (PEP 508) out of what PEP 610 left.

An installer writes `direct_url.json` beside the metadata of what was named by an address, a file, a folder or a
repository. A requirements file has to name that again: a version alone would ask an index for something else.
"""

from __future__ import annotations

from collections.abc import Mapping

from envpack.discover.environment.metadata import InstalledDistribution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def direct_reference(installed: InstalledDistribution) -> str:
    """Return the address to install it from again, such as `git+https://...@COMMIT`; empty for what an index gave."""
    direct = installed.direct_url
    url = str(direct.get("url", ""))
    if not url:
        return _uri(installed.project_folder) if installed.project_folder else ""
    vcs = direct.get("vcs_info")
    fragments = []
    if isinstance(vcs, dict):
        url = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}"
    else:
        fragments += [f"{algorithm}={digest}" for algorithm, digest in archive_hashes(direct).items()][:1]
    if direct.get("subdirectory"):
        fragments.append(f"subdirectory={direct['subdirectory']}")
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _uri(folder: str) -> str:
    from pathlib import Path  # dear, and few distributions are development installs without an address

    return Path(folder).as_uri()


def archive_hashes(direct: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of the archive that was installed, the strongest first; older installers left only one."""
    archive = direct.get("archive_info")
    if not isinstance(archive, dict):
        return {}
    hashes = archive.get("hashes")
    found = {str(name): str(value) for name, value in hashes.items()} if isinstance(hashes, dict) else {}
    name, _, value = str(archive.get("hash", "")).partition("=")
    if not found and value:
        found = {name: value}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "sha256", item[0])))
