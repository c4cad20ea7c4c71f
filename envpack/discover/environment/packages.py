"""The package that a folder belongs to. Needs nothing but the standard library: also processes of the user's ask it."""

from __future__ import annotations

import os


def package_around(folder: str) -> tuple[str, str]:
    """Return the package that a folder is, and the folder it is importable from; a script may use relative imports."""
    parts: list[str] = []
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    return folder, ".".join(parts)
