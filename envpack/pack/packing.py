"""From what a target needs to an environment in the store: one layer per distribution, only the changed ones built."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from envpack.discover.dependencies import Dependencies
from envpack.discover.environment.interpreter import Interpreter, inspect_interpreter
from envpack.errors import IncompatiblePackError, UsageError
from envpack.pack.building import Progress, Uses, build
from envpack.pack.formats.exporting import check_export
from envpack.pack.importing import import_environment, is_environment_file
from envpack.pack.manifest import Manifest
from envpack.pack.sources.base import base_layer
from envpack.pack.sources.conda import CondaFiles
from envpack.pack.sources.distributions import InstalledFiles, LayerFiles, local_layer
from envpack.pack.sources.libraries import MissingLibrary
from envpack.pack.sources.targets import PackTarget, is_version, pack_target
from envpack.pack.sources.used import attributes
from envpack.pack.store.store import Store

if TYPE_CHECKING:
    Target = Callable[..., Any] | str | os.PathLike[str] | Dependencies

Trim = Literal["tests", "files"]


def pack(
    target: Target,
    *,
    python: str | None = None,
    platform: str | None = None,
    functions: Sequence[str | Callable[..., Any]] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    interpreter: bool = False,
    run: Sequence[str] | None = None,
    sample: str | Sequence[Any] | None = None,
    trim: Trim | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    warn: Callable[[MissingLibrary], None] | None = None,
) -> Manifest:
    """Build the environment that a target needs.

    Args:
        target: a function, a script, `script.py:function`, the answer of `analyze`, or a file that holds a whole
            environment: a pack, a plain archive, or an archive by conda-pack or venv-pack.
        python: interpreter whose environment is packed; the running one by default. A version such as `3.12` means
            the running one's distributions for such a Python, which need not be here.
        platform: platform to pack for, such as `manylinux_2_28_aarch64`; that of the interpreter by default.
        functions: functions of the script, where not the whole script is meant.
        include: distributions to pack besides those that were found.
        exclude: distributions to leave out.
        mapping: distribution for an import name, where the installed metadata does not tell.
        interpreter: whether the pack brings the interpreter that the environment stands on, so that the machine need
            not have a Python; a conda environment always brings its own.
        run: also run the target with these arguments, and count what it is seen to use; see `analyze`.
        sample: also call the one function with these arguments; see `analyze`.
        trim: `tests` leaves out the test suites of distributions that nothing refers to. `files` leaves out every file
            that is not opened in a run or sample call of the pack, which it needs, and tries the rest by another one.
            How many bytes were left out stands in the layers of the manifest.
        store: the store to build in; the default one by default.
        output: a file to export the environment to; see `Store.export`.
        progress: called once for each layer, one call at a time.
        warn: called for each shared library that machine code in the pack asks for and that nothing in it has; by
            default a warning is logged.

    Returns:
        The manifest; its layers are in the store.

    Raises:
        UsageError: the name of the output tells no format, or there is no such folder; it cannot be trimmed like this.
        InterpreterNotMovableError: it is to be packed, and would not run elsewhere.
        TrimError: the target fails in its pack, or with nothing but the files that it had opened there.
        ModuleNotInstalledError: the code imports what the interpreter does not have.
        DistributionFilesError: the files of a distribution cannot be told or read.
        TargetDistributionError: a distribution cannot be had for another version or platform.
        RegistryError: no index can be asked for the distributions of another version or platform.
        CondaRecordError: a package of conda that is needed has no record that can be read.
        StoreError: the store cannot be written.
    """
    if output is not None:
        check_export(output)
    place = store if isinstance(store, Store) else Store(store)
    choices = {"include": include, "exclude": exclude, "mapping": mapping, "run": run, "sample": sample}
    if is_environment_file(target):
        _check_ready(functions, choices, platform, interpreter, trim)
        file = cast("str | os.PathLike[str]", target)
        manifest = import_environment(file, place, python=python, progress=progress, warn=warn)
    else:
        order = _Order(target, functions, choices, interpreter, trim, place, progress, warn)
        manifest = _packed(order, python, platform)
    if output is not None:
        place.export(manifest, output)
    return manifest


class _Order(NamedTuple):
    """What `pack` was asked for; see there."""

    target: Target
    functions: Sequence[str | Callable[..., Any]]
    choices: Mapping[str, Any]
    with_interpreter: bool
    trim: Trim | None
    store: Store
    progress: Progress | None
    warn: Callable[[MissingLibrary], None] | None


def _packed(order: _Order, python: str | None, platform: str | None) -> Manifest:
    """Analyse a target and build its environment, for this machine or another one."""
    version = python if python is not None and is_version(python) else ""
    source = None if version else python
    environment = inspect_interpreter(source)
    elsewhere = _elsewhere(environment, version, platform)
    if elsewhere is not None and order.with_interpreter:
        raise UsageError("interpreter of this machine asked for, in a pack for another one", "leave one of the two out")
    if order.trim == "files":
        _check_trial(order, elsewhere)
    dependencies = _dependencies(order, source)
    dependencies.raise_broken()
    dependencies.raise_missing()
    _check_same(dependencies, environment)
    code = {one.file for item in dependencies.functions for one in item.evidence} | {*dependencies.local_files}
    uses = Uses(_roots(dependencies), attributes(code))
    make = partial(build, store=order.store, uses=uses)
    kept = partial(_trimmed, trim=order.trim, uses=uses, code=code)
    if elsewhere is not None:
        return _built_elsewhere(order, dependencies, environment, elsewhere, make, kept)
    layers = _layers(dependencies, environment, order.choices["exclude"], with_interpreter=order.with_interpreter)
    if order.trim == "files":
        return _built_by_trial(order, layers, environment, make)
    return make(kept(layers), environment, progress=order.progress, warn=order.warn)


def _built_elsewhere(
    order: _Order,
    dependencies: Dependencies,
    environment: Interpreter,
    elsewhere: PackTarget,
    make: Callable[..., Manifest],
    kept: Callable[[list[LayerFiles]], list[LayerFiles]],
) -> Manifest:
    from envpack.pack.sources.fetching import target_interpreter, target_layers

    there = target_interpreter(elsewhere, environment)
    with target_layers(dependencies, environment, elsewhere, order.choices["exclude"]) as layers:
        return make(kept(layers), there, progress=order.progress, warn=order.warn)


def _built_by_trial(
    order: _Order, layers: list[LayerFiles], environment: Interpreter, make: Callable[..., Manifest]
) -> Manifest:
    from envpack.pack.trial import built_by_trial

    target = order.target if callable(order.target) else os.fspath(cast("str | os.PathLike[str]", order.target))
    final = partial(make, interpreter=environment, progress=order.progress, warn=order.warn)
    whole = partial(make, interpreter=environment, warn=lambda missing: None)  # the final one will tell
    run, sample = order.choices["run"], order.choices["sample"]
    return built_by_trial(layers, target, order.functions, environment, run, sample, order.store, whole, final)


def _check_ready(
    functions: Sequence[object], choices: Mapping[str, Any], platform: str | None, interpreter: bool, trim: Trim | None
) -> None:
    """Refuse options of the analysis where the target is an environment."""
    if functions or platform or interpreter or trim or _are_chosen(choices):
        raise UsageError("an environment is given ready, together with options of the analysis", "leave them out")


def _are_chosen(choices: Mapping[str, Any]) -> bool:
    # A run without arguments is one, too.
    return _is_run(choices) or any(choices[name] for name in ("include", "exclude", "mapping"))


def _is_run(choices: Mapping[str, Any]) -> bool:
    return choices["run"] is not None or choices["sample"] is not None


def _trimmed(layers: list[LayerFiles], trim: Trim | None, uses: Uses, code: Iterable[str]) -> list[LayerFiles]:
    if trim is None:
        return layers
    from envpack.pack.sources.trimming import without_tests

    return without_tests(layers, uses.roots, code)


def _check_trial(order: _Order, elsewhere: PackTarget | None) -> None:
    """Refuse to look for the files that a target opens where it cannot be run."""
    if not _is_run(order.choices):
        raise UsageError("files can be left out only by what a run has opened", "add --run or --call, or trim tests")
    if elsewhere is not None:
        raise UsageError(f"files can be left out only by a run, and {elsewhere} is not at hand", "trim tests")
    if isinstance(order.target, Dependencies):
        raise UsageError("files can be left out only by a run, and an answer cannot be run", "name the target")


def _elsewhere(interpreter: Interpreter, version: str, platform: str | None) -> PackTarget | None:
    """Return the target, or None where the interpreter's own environment is what is asked for."""
    own = ".".join(interpreter.version.split(".")[:2])
    if platform is None and version in ("", own, interpreter.version):
        return None
    if platform is None:
        from envpack.pack.sources.fetching import own_glibc

        return pack_target(version, interpreter.platform, own_glibc())
    return pack_target(version or own, platform)


def _dependencies(order: _Order, python: str | None) -> Dependencies:
    if isinstance(order.target, Dependencies):
        if order.functions or _are_chosen(order.choices):
            raise UsageError("dependencies are given ready, together with options of the analysis", "pass them there")
        return order.target
    from envpack.discover import analyze

    return analyze(order.target, functions=order.functions, python=python, **order.choices)


def _check_same(dependencies: Dependencies, interpreter: Interpreter) -> None:
    """Refuse an answer about another Python: its distributions are not those that would be packed."""
    if (dependencies.python, dependencies.platform) != (interpreter.version, interpreter.platform):
        raise IncompatiblePackError(
            f"dependencies were found for Python {dependencies.python} on {dependencies.platform}, "
            f"{interpreter.executable} is {interpreter.version} on {interpreter.platform}",
            "name the same interpreter for both",
        )


def _roots(dependencies: Dependencies) -> set[str]:
    """Return the modules that the code imports, and the names of distributions that were asked for without one."""
    modules = {module for function in dependencies.functions for module in function.modules}
    return modules | {one.module for item in dependencies.distributions for one in item.evidence}


def _layers(
    dependencies: Dependencies, interpreter: Interpreter, exclude: Sequence[str], *, with_interpreter: bool
) -> list[LayerFiles]:
    installed = InstalledFiles(interpreter)
    found = [installed.find(item.name, item.version) for item in dependencies.distributions]
    has_conda = os.path.isdir(os.path.join(interpreter.prefix, "conda-meta"))
    conda = CondaFiles(
        interpreter.prefix if has_conda else interpreter.base_prefix, installed.index, dict(interpreter.markers)
    )
    # A virtual environment stands on the interpreter of a machine, also where conda installed that.
    is_own = with_interpreter or interpreter.prefix == interpreter.base_prefix
    asked = [item for item in found if item.source == "conda"]
    needed = conda.needed(asked, interpreter=is_own, exclude=exclude)
    plain = {item.name: item for item in found if item.source != "conda"}
    plain.update((item.name, item) for item in needed.distributions)
    layers = [installed.layer(item) for item in plain.values()] + [conda.layer(name) for name in needed.packages]
    if with_interpreter and "python" not in needed.packages:
        layers.append(base_layer(interpreter))
    if dependencies.local_files:
        python = ".".join(interpreter.version.split(".")[:2])
        layers.append(local_layer(dependencies.local_files, dependencies.local_roots, python))
    return layers
