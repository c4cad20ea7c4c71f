"""What the text of a function names but does not travel with it.

A function that is sent takes values along, not the statements that made them: `from numpy import pi` travels as a
number, and of `library = a if FLAG else b` only the one that was taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set

from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.findings import Findings


def leave_behind(findings: Findings, taken: Set[str], script: str, executed: Set[str], finder: ModuleFinder) -> None:
    """Make optional what the text names and the values do not take along.

    Args:
        findings: what the text says, and the values.
        taken: the modules of everything that travels, and those that its code imports.
        script: the file whose functions travel by value.
        executed: local files that are known to be executed elsewhere. The others count only where some local module
            is taken along that might import them.
        finder: where modules are.
    """
    locations = [finder.find(module) for module in taken]
    owners = {location.distribution for location in locations}
    takes_local = any(location.kind == "local" for location in locations)
    for finding in list(findings.findings):
        by_value = finding.file == script or not (takes_local or finding.file in executed)
        if by_value and finding.kind in ("static", "conditional") and finding.location.distribution not in owners:
            del findings.findings[finding]
            findings.findings[dataclasses.replace(finding, kind="optional")] = None
