"""Readers, each a module with `read`."""
