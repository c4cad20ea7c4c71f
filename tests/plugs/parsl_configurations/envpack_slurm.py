"""Our executor in one job of two nodes, as Parsl's has it."""

from parsl.config import Config
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

from envpack_executor.parsl import ContextReuseExecutor


def fresh_config() -> Config:
    """Return the configuration that the tests are run with."""
    provider = SlurmProvider(
        cmd_timeout=60, nodes_per_block=2, init_blocks=1, max_blocks=1, walltime="00:10:00", launcher=SrunLauncher()
    )
    executor = ContextReuseExecutor(label="envpack", address="127.0.0.1", provider=provider)
    return Config(executors=[executor], strategy="none")
