import importlib
import sys


def codec(suffix):
    match suffix:
        case "yaml" | "yml":
            return importlib.import_module("yaml").safe_dump
        case "msgpack":
            return importlib.import_module("msgpack").packb
        case _:
            raise ValueError(suffix)


print(codec(sys.argv[1] if sys.argv[1:] else "msgpack")([1, 2]))
