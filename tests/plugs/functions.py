"""Functions that tests of plugs let run elsewhere: a module that is imported in a moment."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time


def is_daemonic() -> bool:
    return bool(multiprocessing.current_process().daemon)


def exits(status: int) -> None:
    os._exit(status)


def leaves(status: int) -> None:
    sys.exit(status)


def abs_of(number: int, *, plus: int) -> int:
    return abs(number) + plus


def fails(text: str) -> None:
    raise ValueError(text)


def where(number: int) -> tuple[int, str]:
    return os.getpid(), sys.prefix


def uses_packaging(text: str) -> tuple[str, str, bool]:
    import importlib.util

    import packaging.version

    return str(packaging.version.Version(text)), sys.prefix, importlib.util.find_spec("dask") is not None


def nap(seconds: float, number: int) -> int:
    time.sleep(seconds)
    return number


def sleep_a_little(number: int) -> int:
    time.sleep(0.1)
    return number
