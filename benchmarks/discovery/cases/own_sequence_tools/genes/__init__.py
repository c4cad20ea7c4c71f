"""Small tools for genes."""

__version__ = "0.1"
