"""Which distributions and local files a function or a script needs, and why."""
