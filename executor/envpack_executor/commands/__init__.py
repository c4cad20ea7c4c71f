"""Subcommands of `envpack` that live in this package; each module is cheap to import."""
