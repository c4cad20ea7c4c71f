"""Pickles a function of a script by value, as one sends it to a worker: `capture.py SCRIPT FUNCTION PAYLOAD FACTS`.

Written to FACTS, as JSON:

- `named`: files of the modules that the code which travels refers to by a name of its own: its globals, closure cells,
  defaults, annotations, the bases and attributes of its classes;
- `implied`: files of all modules that the payload refers to;
- `mentioned`: names of modules in import statements of the code that travels.
"""

import dis
import functools
import importlib.util
import io
import json
import operator
import os
import pickle
import sys
import types

import cloudpickle
from cloudpickle.cloudpickle import _extract_code_globals, _should_pickle_by_reference
from program import code_of


class Stand:
    """Anything of a module that this environment lacks: a script's head may import more than its function needs."""

    def __init__(self, *arguments, **named):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stand()

    def __call__(self, *arguments, **named):
        return Stand()


class StandIns:
    """Finds modules that nothing else finds, for the script itself: libraries must notice what is not there."""

    def __init__(self, project):
        self.project = project

    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith("<"):
            frame = frame.f_back
        asked = os.path.dirname(frame.f_code.co_filename).startswith(self.project)
        return importlib.util.spec_from_loader(name, self) if asked and not path else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: Stand()
        return module

    def exec_module(self, module):
        pass


def file_of(name):
    while name:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            return file
        name = name.rpartition(".")[0]
    return None


class Referred(pickle.Unpickler):
    """Notes the modules that a payload refers to, in their order."""

    def __init__(self, payload):
        super().__init__(io.BytesIO(payload))
        self.modules = []

    def find_class(self, module, name):
        found = super().find_class(module, name)
        if (module, name) == ("cloudpickle.cloudpickle", "subimport"):
            return self.subimport
        self.modules.append(module)
        return found

    def subimport(self, name):
        self.modules.append(name)
        return sys.modules.get(name) or importlib.import_module(name)


def modules_in(value):
    """Return the modules outside the standard library that a pickle of `value` refers to; none if it has none."""
    try:
        referred = Referred(cloudpickle.dumps(value))
        referred.load()
    except Exception:  # descriptors, locks ...: what of a class does not travel as a value of its own
        return []
    return [name for name in referred.modules if name.split(".")[0] not in {*sys.stdlib_module_names, "cloudpickle"}]


class Walk(cloudpickle.Pickler):
    """Pickles, and notes what each function and class that travels refers to by name."""

    def __init__(self, target, script):
        super().__init__(target)
        self.script = script
        self.named, self.mentioned, self.seen = set(), set(), set()

    def reducer_override(self, obj):
        self.visit(obj)
        return super().reducer_override(obj)

    def visit(self, obj):
        travels = isinstance(obj, types.FunctionType | type) and not _should_pickle_by_reference(obj)
        if not travels or id(obj) in self.seen:
            return
        self.seen.add(id(obj))
        values = self.of_class(obj) if isinstance(obj, type) else self.of_function(obj)
        for value in values:
            self.name(value)

    def of_class(self, cls):
        return [*cls.__bases__, type(cls), *vars(cls).values()]

    def of_function(self, function):
        self.mention(function.__code__)
        names = _extract_code_globals(function.__code__)
        yield from (function.__globals__[name] for name in names if name in function.__globals__)
        for cell in function.__closure__ or ():
            yield cell.cell_contents
        yield from (function.__defaults__ or (), function.__kwdefaults__ or {}, function.__annotations__)
        yield vars(function)

    def mention(self, code):
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME":
                self.mentioned.add(instruction.argval)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.mention(constant)

    def name(self, value, depth=0):
        """Note whose `value` is: the module's, class's or function's own; of another object, whose class it has."""
        if depth > 6 or value is None:
            return
        inside = self.inside(value)
        if inside is not None:
            for item in inside:
                self.name(item, depth + 1)
        elif isinstance(value, types.ModuleType):
            self.named.add(value.__name__)
        elif isinstance(value, types.FunctionType | type) and not _should_pickle_by_reference(value):
            self.visit(value)
        elif isinstance(value, types.FunctionType | type):
            self.named.add(value.__module__)
        elif not isinstance(value, str | bytes | int | float | complex):
            self.named.update(modules_in(value)[:1])

    def inside(self, value):
        """Return what a container, or an object of the program's own, holds; None for any other object."""
        if isinstance(value, dict | types.MappingProxyType):
            return [*value.keys(), *value.values()]
        if isinstance(value, list | tuple | set | frozenset):
            return list(value)
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            return [value.__func__, getattr(value, "__self__", None)]
        if isinstance(value, property):
            return [value.fget, value.fset, value.fdel]
        if not isinstance(value, type) and getattr(type(value), "__module__", None) == self.script:
            return [type(value), *vars(value).values()]
        if hasattr(value, "py_func"):  # compiled: the source travels inside
            return [value.py_func, *modules_of_class(value)]
        return None


def modules_of_class(value):
    return [sys.modules[type(value).__module__]]


def main(script, function, payload, facts):
    script = os.path.abspath(script)
    sys.path[0] = os.path.dirname(script)
    sys.meta_path.append(StandIns(sys.path[0]))
    module = types.ModuleType("program_to_send")
    module.__file__ = script
    sys.modules[module.__name__] = module
    cloudpickle.register_pickle_by_value(module)
    exec(compile(code_of(script), script, "exec"), vars(module))
    asked = operator.attrgetter(function)(module)
    with open(payload, "wb") as file:
        walk = Walk(file, module.__name__)
        walk.name(asked)
        walk.dump(asked)
    with open(payload, "rb") as file:
        implied = modules_in_payload(file.read())
    with open(facts, "w") as file:
        found = {
            "named": sorted(filter(None, map(file_of, walk.named - {module.__name__}))),
            "implied": sorted(filter(None, map(file_of, implied))),
            "mentioned": sorted(walk.mentioned),
        }
        json.dump(found, file)


def modules_in_payload(payload):
    referred = Referred(payload)
    referred.load()
    return [name for name in referred.modules if name.partition(".")[0] != "cloudpickle"]


if __name__ == "__main__":
    main(*sys.argv[1:])
