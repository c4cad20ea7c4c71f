"""Console scripts that keep working after any move of their environment.

An installer writes the absolute path of its interpreter into the first line of a script, which is wrong everywhere
else. The packed script is started by `/bin/sh`, finds the interpreter beside itself, also when it is called through a
link, and reads to Python as a string that is thrown away.
"""

from __future__ import annotations

RELOCATABLE_HEAD = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""


def relocatable(script: bytes) -> bytes:
    """Return the script with an interpreter line that finds Python beside it; other files come back unchanged."""
    if script.startswith(RELOCATABLE_HEAD):
        return script
    body = _body(script)
    return script if body is None else RELOCATABLE_HEAD + body


def _body(script: bytes) -> bytes | None:
    """Return what follows the interpreter line of a Python script, or None where the file is none."""
    if not script.startswith(b"#!"):
        return None
    first, _, rest = script.partition(b"\n")
    interpreter = first[2:].split()[:1]
    if first.startswith(b"#!/usr/bin/env "):
        interpreter = first.split()[1:2]
    if interpreter and interpreter[0].rpartition(b"/")[2].startswith((b"python", b"pypy")):
        return rest
    # The forms for paths with spaces or beyond 127 bytes, as distlib and uv, and as py-rattler write it.
    lines = script.split(b"\n", 3)
    if lines[0] != b"#!/bin/sh" or len(lines) < 4 or not lines[1].startswith(b"'''exec'"):
        return None
    if lines[1].endswith(b"#'''"):
        return lines[2] + b"\n" + lines[3]
    return lines[3] if lines[2] == b"' '''" else None
