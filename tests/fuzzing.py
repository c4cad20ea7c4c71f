"""How many inputs the tests make up: few and always the same ones, or many new ones where `make fuzz` asks for them.

`FUZZ_TIMES` multiplies what each test is content with; less than 1 under the Pythons that come second.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def times(examples: int) -> int:
    """Return how many examples a test tries that is content with so many."""
    return max(1, round(examples * float(os.environ.get("FUZZ_TIMES", "1"))))


def load_profile() -> None:
    """Take the same inputs in every run, so that a change is judged by what it did, or new ones if asked for.

    Neither is judged by how long an input took to make or to try: that depends on what else the machine does.
    """
    untimed = settings(max_examples=times(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("repeatable", untimed, derandomize=True, database=None)
    settings.register_profile("explore", untimed, print_blob=True)
    settings.load_profile("explore" if times(100) > 100 else "repeatable")
