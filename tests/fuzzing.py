"""How many inputs the tests make up: few and always the same ones, or many new ones where `make fuzz` asks for them."""

from __future__ import annotations

import os

from hypothesis import settings


def times(examples: int) -> int:
    """Return how many examples a test tries that is content with so many."""
    return examples * int(os.environ.get("FUZZ_TIMES", "1"))


def load_profile() -> None:
    """Take the same inputs in every run, so that a change is judged by what it did, or new ones if asked for."""
    settings.register_profile("repeatable", derandomize=True, database=None)
    settings.register_profile("explore", print_blob=True)
    settings.load_profile("explore" if times(1) > 1 else "repeatable")
