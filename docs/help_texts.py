"""Put the help of the commands into the reference when the site is built, so that it cannot grow stale.

A line `<!-- help: analyze -->` of a page becomes what `envpack analyze --help` prints. Used by mkdocs (`hooks:`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

_MARK = re.compile(r"^<!-- help:(?P<words>[a-z -]*)-->$", re.MULTILINE)


def _help_of(words: list[str]) -> str:
    command = [sys.executable, "-m", "envpack", *words, "--help"]
    environ = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    text = subprocess.run(command, env=environ, check=True, capture_output=True, text=True, timeout=60).stdout
    return f"```text\n$ {' '.join(['envpack', *words, '--help'])}\n{text.rstrip()}\n```"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark of a page by the help that it names."""
    return _MARK.sub(lambda mark: _help_of(mark["words"].split()), markdown)
