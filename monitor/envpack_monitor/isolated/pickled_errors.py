"""Exceptions as bytes, as Python pickles them, whatever other libraries have told all picklers. Standard library only.

tblib, which Dask installs where it is imported, has `copyreg` pickle every exception its own way: with traceback and
cause, but without what an exception keeps neither in `args` nor in its dictionary, such as the status of `SystemExit`.
"""

from __future__ import annotations

import _pickle as pickle
import copyreg
import sys
from _io import BytesIO
from typing import Any

_STRANGERS = "tblib"


def dumps(error: BaseException, protocol: int, pickler: Any = pickle.Pickler) -> bytes:
    """Return the pickle of an exception.

    Args:
        error: the exception.
        protocol: of pickle.
        pickler: the class that makes it, `pickle.Pickler` or that of cloudpickle.

    Raises:
        Exception: what the pickler raises where the exception, or what it refers to, cannot be pickled.
    """
    if _STRANGERS in sys.modules:
        # What stands there in the C pickler is the attribute of its instances.
        own = pickler.__dict__.get("dispatch_table") if pickler is not pickle.Pickler else None
        table = _without_strangers({**(own or {}), **copyreg.dispatch_table})
        pickler = type(pickler.__name__, (pickler,), {"dispatch_table": table})  # it looks there once, when it begins
    file = BytesIO()
    pickler(file, protocol).dump(error)
    return bytes(file.getvalue())


def _without_strangers(table: dict[Any, Any]) -> dict[Any, Any]:
    return {kind: reduce for kind, reduce in table.items() if not (_is_error(kind) and _is_strange(reduce))}


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _is_strange(reduce: Any) -> bool:
    return str(getattr(reduce, "__module__", "")).partition(".")[0] == _STRANGERS
