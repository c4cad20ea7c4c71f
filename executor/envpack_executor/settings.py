"""Every environment variable that `envpack_executor` reads, and those it sets for the processes it starts.

It reads none of its own: the store (`ENVPACK_STORE`) and the history (`ENVPACK_HISTORY`) belong to the packages that
own them. It sets, where the user has not:

| variables | value in a context process |
|---|---|
| `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS`, | cores of the node / slots, |
| `NUMEXPR_NUM_THREADS`, `BLIS_NUM_THREADS` | at least 1 |
"""

from __future__ import annotations

import os
from collections.abc import Mapping

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def child_environ(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment variables of a context process.

    Args:
        environ: the variables of the process that starts it.
        threads: cores that each context process may fill.
    """
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **environ}
