"""Charts of a history: what they show, as text and as pictures."""
