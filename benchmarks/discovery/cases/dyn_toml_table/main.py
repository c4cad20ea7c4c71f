import importlib
import tomllib

SETTINGS = """
[codec]
module = "simplejson"
function = "dumps"
"""
codec = tomllib.loads(SETTINGS)["codec"]
print(getattr(importlib.import_module(codec["module"]), codec["function"])({"a": 1}))
