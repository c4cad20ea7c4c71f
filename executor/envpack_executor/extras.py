"""What the plugs stand on and the distribution does not: asked for when a plug is imported, and named if missing."""

from __future__ import annotations

import importlib


def need(module: str, plug: str) -> None:
    """Make sure that `module` is there before `plug` imports from it.

    A module that is there and cannot be imported raises its own error: to install the extra again would not help.

    Args:
        module: name of what the extra brings.
        plug: full name of the package that needs it; the last part of it is the name of the extra.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        extra = plug.rpartition(".")[2]
        raise ImportError(f"{plug} needs {module}: pip install 'envpack-hpc[{extra}]'", name=module) from None
