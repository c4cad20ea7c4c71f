"""What the tests of nodes in jobs of Slurm share: providers as users write them, and where a call has run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

from envpack_executor.nodes import Heartbeat
from envpack_executor.parsl import ProviderNodes

QUICK = Heartbeat(every_s=0.2, silence_s=3.0)


def nodes(folder: Path, *, nodes_per_block: int = 1, **options: Any) -> ProviderNodes:
    """Return nodes in jobs of whole machines, each with a store of its own and one call at a time.

    Args:
        folder: for stores, scripts and what jobs print.
        nodes_per_block: of the provider.
        options: of the provider, and `idle_timeout_s` of the nodes.
    """
    idle_timeout_s = options.pop("idle_timeout_s", 1.0)
    provider = SlurmProvider(
        **{
            "cmd_timeout": 60,
            "init_blocks": 0,
            "walltime": "00:10:00",
            "launcher": SrunLauncher(),
            "worker_init": f"export ENVPACK_STORE={folder}/store-$SLURMD_NODENAME",
            "nodes_per_block": nodes_per_block,
            **options,
        }
    )
    return ProviderNodes(provider, folder=folder / "runs", cores=1, idle_timeout_s=idle_timeout_s, heartbeat=QUICK)


def where() -> tuple[str, str]:
    """Return the job and the node that this runs in."""
    return os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]


def mark(folder: str, number: int, seconds: float) -> int:
    """Leave a mark of each time that this begins and ends."""
    import time

    _append(f"{folder}/begun", number)
    time.sleep(seconds)
    _append(f"{folder}/done", number)
    return number


def meet(folder: str, number: int, count: int) -> tuple[str, str]:
    """Return where this runs as soon as `count` calls run at once."""
    import time

    Path(folder, f"here-{number}").touch()
    while len(list(Path(folder).glob("here-*"))) < count:
        time.sleep(0.01)
    return where()


def _append(file: str, number: int) -> None:
    with open(file, "a") as stream:
        stream.write(f"{number}\n")
