"""The code that travels to a context process, and the one line of Python that receives it.

The bundle holds compiled code of our modules and of cloudpickle, and their source where another interpreter may read
it: the process takes the compiled form when its bytecode format is ours, the source otherwise.

A start is what the first result waits for, so nothing is done twice or too early: the code comes out of the files that
Python has compiled already, what stands in cloudpickle is not even unmarshalled before somebody imports it, and our
modules are run without `typing`, which with what it imports would be a fifth of the whole start.
"""

from __future__ import annotations

import functools
import importlib.util
import marshal
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from envpack_executor.process.frames import VALUES

_OURS = (
    "envpack_executor.process.frames",
    "envpack_monitor.calls.counters",
    "envpack_monitor.calls.bracket",
    "envpack_monitor.isolated.forked",
    "envpack_monitor.isolated.pickled_errors",
    "envpack_executor.process.meter",
    "envpack_executor.process.functions",
    "envpack_executor.process.output",
    "envpack_executor.process.outcomes",
    "envpack_executor.process.control",
    "envpack_executor.process.looks",
    "envpack_executor.process.waiting",
    "envpack_executor.process.forking",
    "envpack_executor.process.threads",
    "envpack_executor.process.child",
)
_MARSHAL_VERSION = 2  # what every supported Python reads alike

# Our modules are in sys.modules only while they are loaded: afterwards the user's environment decides what these
# names mean, and that may be an installed envpack. The same holds for what stands in for `typing`: our annotations are
# never evaluated, and any name of it may be any object.
BOOTSTRAP = """
import marshal, os, sys
from _frozen_importlib_external import MAGIC_NUMBER
s, d, l, p, o, w = map(int, sys.argv[1:7])
del sys.argv[1:]
def read(n):
    b = b''
    while len(b) < n:
        c = os.read(s, n - len(b))
        if not c: sys.exit(0)
        b += c
    return b
magic, ours, others = marshal.loads(read(int.from_bytes(read(8), 'little')))
same = magic == MAGIC_NUMBER
bare = 'typing' not in sys.modules
if bare:
    m = sys.modules['typing'] = type(sys)('typing')
    m.__getattr__ = lambda name: object
for n, t, c in ours:
    m = type(sys)(n)
    sys.modules[n] = m
    exec(marshal.loads(c) if same else compile(t, '<envpack ' + n + '>', 'exec'), m.__dict__)
if bare: del sys.modules['typing']
for n, t, c in ours: del sys.modules[n]
m.main(s, d, l, p, o, w, {n: (c if same else t, k) for n, t, c, k in others})
"""


def _code(name: str, spec: ModuleSpec) -> bytes:
    """Return the marshalled code of a module, out of the file of compiled code where there is one."""
    loader = spec.loader
    code = loader.get_code(spec.name) if isinstance(loader, SourceFileLoader) else None
    if code is None:
        code = compile(_source(spec), "", "exec", dont_inherit=True)
    return marshal.dumps(_named(code, f"<envpack {name}>"))


def _named(code: CodeType, file: str) -> CodeType:
    """Return `code`, and what is defined in it, with a file name that says where it came from: no disk of there."""
    inner = tuple(_named(each, file) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=file, co_consts=inner)


def _source(spec: ModuleSpec) -> str:
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _our_modules(with_source: bool) -> list[tuple[str, str, bytes]]:
    modules = []
    for name in _OURS:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"module {name!r} of envpack is not installed completely", name=name)
        modules.append((name, _source(spec) if with_source else "", _code(name, spec)))
    return modules


def _values_module(with_source: bool) -> tuple[str, str, bytes, bool]:
    """Return what is loaded when the first large value comes."""
    spec = importlib.util.find_spec("envpack_executor.process.kept")
    assert spec is not None
    return VALUES, _source(spec) if with_source else "", _code(VALUES, spec), False


def _cloudpickle_modules(with_source: bool) -> list[tuple[str, str, bytes, bool]]:
    # Found on disk rather than imported: in a context process, what is imported came out of a bundle itself.
    package = PathFinder.find_spec("cloudpickle")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("cloudpickle is not installed", name="cloudpickle")
    modules = []
    for path in sorted(Path(package.origin).parent.glob("*.py")):
        is_package = path.stem == "__init__"
        name = "cloudpickle" if is_package else f"cloudpickle.{path.stem}"
        spec = ModuleSpec(name, SourceFileLoader(name, str(path)), origin=str(path))
        modules.append((name, _source(spec) if with_source else "", _code(name, spec), is_package))
    return modules


@functools.cache
def bundle(with_source: bool = True) -> bytes:
    """Return the bytes that a starting context process reads first: their length, then the marshalled modules.

    Args:
        with_source: for an interpreter that may be another than ours.
    """
    others = [_values_module(with_source), *_cloudpickle_modules(with_source)]
    modules = importlib.util.MAGIC_NUMBER, _our_modules(with_source), others
    body = marshal.dumps(modules, _MARSHAL_VERSION)
    return len(body).to_bytes(8, "little") + body


def command(python: str, is_isolated: bool, descriptors: tuple[int, int, int, int, int, int]) -> list[str]:
    """Return the command line of a context process.

    Args:
        python: the interpreter of its environment.
        is_isolated: whether it must see nothing but that environment (no PYTHONPATH, no user site).
        descriptors: the inherited socket, control pipe, lifeline, progress and output descriptors, and the pipe for
            what is printed, or -1.
    """
    flags = ["-I"] if is_isolated else ["-P"]
    inherited = [f"-X{name}" for name in ("dev",) if name in sys._xoptions]
    return [python, *flags, *inherited, "-c", BOOTSTRAP, *map(str, descriptors)]
