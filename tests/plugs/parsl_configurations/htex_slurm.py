"""Parsl's own executor in one job of two nodes."""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider


def fresh_config() -> Config:
    """Return the configuration that the tests are run with."""
    provider = SlurmProvider(
        cmd_timeout=60, nodes_per_block=2, init_blocks=1, max_blocks=1, walltime="00:10:00", launcher=SrunLauncher()
    )
    executor = HighThroughputExecutor(label="htex", encrypted=True, cores_per_worker=1, provider=provider)
    return Config(executors=[executor], strategy="none")
