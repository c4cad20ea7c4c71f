import enum
import importlib


class Engine(enum.Enum):
    FAST = "msgpack"
    PLAIN = "json"


engine = importlib.import_module(Engine.FAST.value)
print(engine.packb([1, 2]))
