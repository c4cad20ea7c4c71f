import importlib

_HOMES = {"load_yaml": ("yaml", "safe_load"), "load_pack": ("msgpack", "unpackb")}


def __getattr__(name):
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(name)
