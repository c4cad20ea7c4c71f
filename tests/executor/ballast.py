"""A distribution that is large and cannot be compressed, for tests that count the bytes of its layer."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PACKAGE = b"from pathlib import Path\n\nDATA = Path(__file__).with_name('data.bin')\n"
_METADATA = b"Metadata-Version: 2.1\nName: ballast\nVersion: 1.0\n"
_WHEEL = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def install(folder: Path, size: int) -> Path:
    """Write a distribution with `size` random bytes, as an installer would; return the folder for `sys.path`."""
    files = {
        "ballast/__init__.py": _PACKAGE,
        "ballast/data.bin": hashlib.shake_128(b"ballast").digest(size),
        "ballast-1.0.dist-info/METADATA": _METADATA,
        "ballast-1.0.dist-info/WHEEL": _WHEEL,
    }
    record = "ballast-1.0.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*files, record)).encode()
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def weigh(started: str, release: str) -> tuple[int, int]:
    """Say that the call has begun and wait for the word; return the size of the ballast, and the worker's pid."""
    import os
    import time

    import ballast  # type: ignore[import-not-found]

    with open(f"{started}-{os.getpid()}", "w"):
        pass
    while not os.path.exists(release):
        time.sleep(0.01)
    return len(ballast.DATA.read_bytes()), os.getppid()
