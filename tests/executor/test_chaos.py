"""The short form of `make chaos`: a few thousand calls over workers that are killed, suspended and cut off."""

from __future__ import annotations

import pytest

from tests.executor import chaos
from tests.executor.networks import Relays


@pytest.mark.slow
def test_every_call_ends_once_and_rightly_whatever_is_killed_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    problems = chaos.run(3_000, workers_count=3, seconds=8.0, seed=3, network=Relays(3))
    told = capfd.readouterr().out
    assert not problems, told
    assert "3,000 ends of 3,000 calls" in told
