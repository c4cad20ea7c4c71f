import importlib
import pkgutil

import readers

for found in sorted(pkgutil.iter_modules(readers.__path__), key=lambda each: each.name):
    module = importlib.import_module(f"{readers.__name__}.{found.name}")
    print(found.name, module.read("1"))
