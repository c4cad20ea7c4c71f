"""What a line of requirements means in one environment: its name, its extras, and whether it holds.

`packaging` decides all but the plainest. What it said is kept, because it can never change: a verdict follows from the
line, the extra and the marker environment alone. So a second analysis decides without loading that library.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from envpack.discover.environment.cache import load, save
from envpack.discover.environment.names import normalized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_KEPT = 20_000

# Nine of ten lines: a name, extras, versions, and at most the condition that an extra was asked for.
_NAME = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_EXTRAS = rf"(?:\[\s*({_NAME}(?:\s*,\s*{_NAME})*)\s*\])?"
_VERSION = r"(?:[<>]=?|[!=]=)\s*\d+(?:\.\d+)*"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*"
_CONDITION = rf"(?:;\s*extra\s*==\s*[\"']({_NAME})[\"']\s*)?"
_PLAIN = rf"(?a)\s*({_NAME})\s*{_EXTRAS}\s*(?:{_VERSIONS}|\(\s*{_VERSIONS}\s*\))?\s*{_CONDITION}"

# Of each line: the normalized name, the extras, and for each extra asked for whether it holds; `None` for no line.
_Meaning = tuple[str, tuple[str, ...], dict[str, bool]] | None


class Requirements:
    """The meaning of requirement lines in one environment.

    Args:
        markers: the environment in which markers are evaluated.
    """

    def __init__(self, markers: Mapping[str, str]) -> None:
        self._markers = dict(markers)
        self._key = repr(sorted(markers.items()))
        self._known: dict[str, _Meaning] = load("requirements", self._key) or {}
        self._is_new = False

    def needs(self, line: str, extra: str = "") -> tuple[str, tuple[str, ...]] | None:
        """Return the name and the extras that a line asks for, or `None` if it asks for nothing.

        Args:
            line: such as `dask[array] >= 2024; extra == "fast"`. Old metadata has lines that are no requirement;
                installers skip them, and so does this.
            extra: the extra that was asked for; with one only what it adds counts.
        """
        meaning = self._meaning(line)
        if meaning is None:
            return None
        name, extras, verdicts = meaning
        if extra not in verdicts:
            verdicts[extra] = self._holds(line, extra)
            self._is_new = True
        return (name, extras) if verdicts[extra] else None

    def keep(self) -> None:
        """Keep what was decided for other processes."""
        if self._is_new:
            self._is_new = False
            save("requirements", self._key, self._known if len(self._known) <= _MAX_KEPT else {})

    def _meaning(self, line: str) -> _Meaning:
        if line not in self._known:
            import re

            self._is_new = True
            if match := re.fullmatch(_PLAIN, line):
                name, extras = match[1], (match[2] or "").split(",")
            elif (requirement := _parsed(line)) is not None:
                name, extras = requirement.name, requirement.extras
            else:
                self._known[line] = None
                return None
            self._known[line] = (normalized(name), tuple(sorted(normalized(one.strip()) for one in extras if one)), {})
        return self._known[line]

    def _holds(self, line: str, extra: str) -> bool:
        import re

        if match := re.fullmatch(_PLAIN, line):
            return normalized(extra) == normalized(match[3] or "")
        marker = _parsed(line).marker
        if marker is None:
            return not extra
        if not marker.evaluate({**self._markers, "extra": extra}):
            return False
        # With an extra asked for, only what the extra adds: the rest has been followed without it.
        return not extra or not marker.evaluate({**self._markers, "extra": ""})


@lru_cache(maxsize=1024)
def _parsed(line: str) -> Any:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def requirements_in(markers: Mapping[str, str]) -> Requirements:
    """Return the meaning of requirement lines in a marker environment; the same object each time."""
    return _requirements(tuple(sorted(markers.items())))


@lru_cache(maxsize=8)
def _requirements(markers: tuple[tuple[str, str], ...]) -> Requirements:
    return Requirements(dict(markers))
