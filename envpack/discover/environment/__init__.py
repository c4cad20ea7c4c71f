"""The asked environment: its interpreter, its distributions, and where a module is in it."""
