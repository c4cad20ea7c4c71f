"""A helper module of the user's own: it travels with the functions that import it."""

from __future__ import annotations

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spell(digit: int) -> str:
    return WORDS[digit]
