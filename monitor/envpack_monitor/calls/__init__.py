"""Calls and blocks of this process: the decorator, the bracket around each call, and what becomes of its figures."""
