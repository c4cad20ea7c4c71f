"""Names of distributions, compared as installers compare them."""

from __future__ import annotations


def normalized(name: str) -> str:
    """Return the normalized form of a distribution's or an extra's name: `Ruamel_Yaml` is `ruamel-yaml`.

    The rule is a line of the packaging standards. `packaging.utils` has it too, but its import costs more CPU than a
    whole analysis of which the index is known.
    """
    found = name.lower().replace("_", "-").replace(".", "-")
    while "--" in found:
        found = found.replace("--", "-")
    return found
