"""An environment of nothing but the files that a run of the program opens in its pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from envpack.discover.analysis import Trial
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.tracing.rehearsal import Rehearsal
from envpack.pack.manifest import Manifest
from envpack.pack.sources.distributions import LayerFiles
from envpack.pack.sources.trimming import only_touched
from envpack.pack.store.store import Store

Build = Callable[[list[LayerFiles]], Manifest]


def built_by_trial(
    layers: list[LayerFiles],
    target: str | Callable[..., Any],
    functions: Sequence[str | Callable[..., Any]],
    interpreter: Interpreter,
    run: Sequence[str] | None,
    sample: str | Sequence[Any] | None,
    store: Store,
    build_whole: Build,
    build: Build,
) -> Manifest:
    """Build an environment, run the program in it, build what it has opened, and run the program there.

    Args:
        layers: the layers of the whole environment.
        target: what is run, as `analyze` takes it.
        functions: more functions of it.
        interpreter: the interpreter that the environment comes from, and stands on.
        run: the words that a script is run with.
        sample: the arguments that a function is called with.
        store: where both environments are made.
        build_whole: builds the first.
        build: builds the second.

    Raises:
        TrimError: it fails in one of them.
    """
    trial = Trial(run, sample, {}, verify=False)
    with Rehearsal(target, functions, interpreter, trial) as rehearsal:
        whole = build_whole(layers)
        base = None if whole.has_interpreter else interpreter.base_executable
        touched = rehearsal.touched(store.materialise(whole, python=base))
        manifest = build(only_touched(layers, touched))
        rehearsal.repeat(store.materialise(manifest, python=base))
    return manifest
