"""Functions as live objects, and what their values say."""
