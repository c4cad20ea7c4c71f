"""Process trees: commands and running processes, measured as a whole, limited, and ended without a survivor."""
