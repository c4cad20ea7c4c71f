"""Our executor on this machine, with the provider that Parsl's has in its tests."""

from parsl.config import Config
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider

from envpack_executor.parsl import ContextReuseExecutor


def fresh_config() -> Config:
    """Return the configuration that the tests are run with."""
    provider = LocalProvider(init_blocks=1, max_blocks=1, launcher=SimpleLauncher())
    return Config(executors=[ContextReuseExecutor(label="envpack", provider=provider)], strategy="none")
