"""Calls that load pickled objects from a file: the modules of the objects are needed where the file is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from envpack.discover.code import syntax as ast
from envpack.discover.loads.opened import existing, opened_paths
from envpack.discover.loads.values import CallSite, Load, Reader


def _from_file(site: CallSite) -> Iterator[Load]:
    """Read `pickle.load(open("model.pkl", "rb"))` and `joblib.load("model.joblib")`."""
    paths = opened_paths(site, site.node.args[0] if site.node.args else None)
    yield from (Load("pickle", existing(site, path) or path) for path in paths)
    if not paths:
        yield Load(
            "question",
            f"{site.name} reads a file whose path is computed: name what its objects need with --include DIST",
        )


def _from_text(site: CallSite) -> Iterator[Load]:
    """Read `pickle.loads(Path("model.pkl").read_bytes())`; bytes from elsewhere are mostly the program's own."""
    node = site.node.args[0] if site.node.args else None
    if not (isinstance(node, ast.Constant) and isinstance(node.value, bytes)):
        paths = opened_paths(site, node)
        yield from (Load("pickle", found) for path in paths if (found := existing(site, path)))


def _array(site: CallSite) -> Iterator[Load]:
    """Read `numpy.load(path, allow_pickle=True)`."""
    if True in site.values(site.argument(2, "allow_pickle")):
        yield from _from_file(site)


_LOADERS = (
    "pickle.load",
    "pickle.Unpickler",
    "cPickle.load",
    "dill.load",
    "cloudpickle.load",
    "joblib.load",
    "torch.load",
)

PICKLED: dict[str, Reader] = {
    **dict.fromkeys((*_LOADERS, "pandas.read_pickle"), _from_file),
    **dict.fromkeys(("pickle.loads", "dill.loads", "cloudpickle.loads"), _from_text),
    "numpy.load": _array,
}
