from importlib import import_module


def load(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


STEPS = ["toolz.itertoolz.concat", "toolz.functoolz.compose"]
concat, compose = map(load, STEPS)
print(compose(list, concat)([[1], [2, 3]]))
