"""Runs a program in an unpacked environment and fails if the process has mapped or imported anything from elsewhere.

Started as `DIR/bin/python -P witness.py PROGRAM`; standard library only.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

# What comes with every machine: its libraries, its interpreter, and memory that is no file.
SYSTEM = ("/usr/lib", "/lib", "/usr/share", "/etc/", "/dev/", "/memfd:", "/SYSV", "[", "anon_inode:")


def strangers(own: tuple[str, ...]) -> list[str]:
    """Return what this process has mapped or imported from neither the environment nor the system."""
    lines = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    mapped = {words[5] for words in lines if len(words) > 5 and not words[5].startswith(SYSTEM)}
    # Some modules are made by code, and have a name of no file.
    named = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    loaded = {file for file in named if os.path.isabs(file)}
    return sorted(file for file in mapped | loaded if not file.startswith(own))


def main(program: str) -> None:
    runpy.run_path(program, run_name="__main__")
    own = (f"{sys.prefix}/", f"{sys.base_prefix}/", __file__, program)
    if found := strangers(own):
        sys.exit(f"from elsewhere: {found}")


if __name__ == "__main__":
    main(sys.argv[1])
