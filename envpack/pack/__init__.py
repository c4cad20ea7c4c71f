"""Content-named layers, the manifest of an environment, and the store that unpacks each layer once."""
