"""The code that travels to a context process, and the one line of Python that receives it.

The bundle holds source and compiled code of our modules and of cloudpickle. The process takes the compiled form when
its bytecode format is ours (saves about 20 ms at each start), the source otherwise.
"""

from __future__ import annotations

import functools
import importlib.util
import marshal
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_OURS = (
    "envpack_executor.process.frames",
    "envpack_monitor.calls.counters",
    "envpack_monitor.calls.bracket",
    "envpack_executor.process.meter",
    "envpack_executor.process.child",
)
_MARSHAL_VERSION = 2  # what every supported Python reads alike

# Our modules are in sys.modules only while they are loaded: afterwards the user's environment decides what these
# names mean, and that may be an installed envpack.
BOOTSTRAP = """
import marshal, os, sys
from _frozen_importlib_external import MAGIC_NUMBER
s, l, p = map(int, sys.argv[1:4])
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
for n, t, c in ours:
    m = type(sys)(n)
    sys.modules[n] = m
    exec(marshal.loads(c) if same else compile(t, '<envpack ' + n + '>', 'exec'), m.__dict__)
for n, t, c in ours: del sys.modules[n]
m.main(s, l, p, {n: (marshal.loads(c) if same else t, k) for n, t, c, k in others})
"""


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"module {name!r} of envpack is not installed completely", name=name)
    return Path(spec.origin).read_text(encoding="utf-8")


def _compiled(name: str, source: str) -> bytes:
    return marshal.dumps(compile(source, f"<envpack {name}>", "exec", dont_inherit=True))


def _cloudpickle_modules() -> list[tuple[str, str, bytes, bool]]:
    # Found on disk rather than imported: in a context process, what is imported came out of a bundle itself.
    spec = PathFinder.find_spec("cloudpickle")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("cloudpickle is not installed", name="cloudpickle")
    modules = []
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        is_package = path.stem == "__init__"
        name = "cloudpickle" if is_package else f"cloudpickle.{path.stem}"
        source = path.read_text(encoding="utf-8")
        modules.append((name, source, _compiled(name, source), is_package))
    return modules


@functools.cache
def bundle() -> bytes:
    """Return the bytes that a starting context process reads first: their length, then the marshalled modules."""
    ours = []
    for name in _OURS:
        source = _source(name)
        ours.append((name, source, _compiled(name, source)))
    body = marshal.dumps((importlib.util.MAGIC_NUMBER, ours, _cloudpickle_modules()), _MARSHAL_VERSION)
    return len(body).to_bytes(8, "little") + body


def command(python: str, is_isolated: bool, descriptors: tuple[int, int, int]) -> list[str]:
    """Return the command line of a context process.

    Args:
        python: the interpreter of its environment.
        is_isolated: whether it must see nothing but that environment (no PYTHONPATH, no user site).
        descriptors: the inherited socket, lifeline and progress descriptors.
    """
    flags = ["-I"] if is_isolated else ["-P"]
    inherited = [f"-X{name}" for name in ("dev",) if name in sys._xoptions]
    return [python, *flags, *inherited, "-c", BOOTSTRAP, *map(str, descriptors)]
