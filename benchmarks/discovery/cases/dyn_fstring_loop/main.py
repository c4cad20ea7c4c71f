import importlib

READERS = ("color", "filters")

loaded = []
for reader in READERS:
    loaded.append(importlib.import_module(f"skimage.{reader}"))
print([module.__name__ for module in loaded])
