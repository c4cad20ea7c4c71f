"""Isolated calls: one call in a forked or fresh process, and what comes back from it."""
