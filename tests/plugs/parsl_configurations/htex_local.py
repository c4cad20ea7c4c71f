"""Parsl's own executor on this machine, as its own tests have it."""

from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider


def fresh_config() -> Config:
    """Return the configuration that the tests are run with."""
    provider = LocalProvider(init_blocks=1, max_blocks=1, launcher=SimpleLauncher())
    executor = HighThroughputExecutor(label="htex", encrypted=True, cores_per_worker=1, provider=provider)
    return Config(executors=[executor], strategy="none")
