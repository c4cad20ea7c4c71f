"""From what a target needs to an environment in the store: one layer per distribution, only the changed ones built."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

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
    if is_environment_file(target):
        is_run = run is not None or sample is not None
        if functions or include or exclude or mapping or platform or interpreter or trim or is_run:
            raise UsageError("an environment is given ready, together with options of the analysis", "leave them out")
        manifest = import_environment(
            cast("str | os.PathLike[str]", target), place, python=python, progress=progress, warn=warn
        )
        if output is not None:
            place.export(manifest, output)
        return manifest
    version = python if python is not None and is_version(python) else ""
    source = None if version else python
    environment = inspect_interpreter(source)
    elsewhere = _elsewhere(environment, version, platform)
    if elsewhere is not None and interpreter:
        raise UsageError("interpreter of this machine asked for, in a pack for another one", "leave one of the two out")
    choices: dict[str, Any] = {"include": include, "exclude": exclude, "mapping": mapping, "run": run, "sample": sample}
    if trim == "files":
        _check_trial(target, elsewhere, is_run=run is not None or sample is not None)
    dependencies = _dependencies(target, source, functions, choices)
    dependencies.raise_broken()
    dependencies.raise_missing()
    _check_same(dependencies, environment)
    files = {one.file for item in dependencies.functions for one in item.evidence} | {*dependencies.local_files}
    uses = Uses(_roots(dependencies), attributes(files))
    if elsewhere is None:
        make = partial(build, interpreter=environment, store=place, uses=uses)
        layers = _layers(dependencies, environment, exclude, with_interpreter=interpreter)
        if trim == "files":
            from envpack.pack.trial import built_by_trial

            asked = target if callable(target) else os.fspath(cast("str | os.PathLike[str]", target))
            final = partial(make, progress=progress, warn=warn)
            whole = partial(make, warn=lambda missing: None)  # the final one will tell
            manifest = built_by_trial(layers, asked, functions, environment, run, sample, place, whole, final)
        else:
            manifest = make(_trimmed(layers, trim, uses, files), progress=progress, warn=warn)
    else:
        from envpack.pack.sources.fetching import target_interpreter, target_layers

        there = target_interpreter(elsewhere, environment)
        with target_layers(dependencies, environment, elsewhere, exclude) as layers:
            kept = _trimmed(layers, trim, uses, files)
            manifest = build(kept, there, place, uses=uses, progress=progress, warn=warn)
    if output is not None:
        place.export(manifest, output)
    return manifest


def _trimmed(layers: list[LayerFiles], trim: Trim | None, uses: Uses, code: Iterable[str]) -> list[LayerFiles]:
    if trim is None:
        return layers
    from envpack.pack.sources.trimming import without_tests

    return without_tests(layers, uses.roots, code)


def _check_trial(target: Target, elsewhere: PackTarget | None, *, is_run: bool) -> None:
    """Refuse to look for the files that a target opens where it cannot be run."""
    if not is_run:
        raise UsageError("files can be left out only by what a run has opened", "add --run or --call, or trim tests")
    if elsewhere is not None:
        raise UsageError(f"files can be left out only by a run, and {elsewhere} is not at hand", "trim tests")
    if isinstance(target, Dependencies):
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


def _dependencies(
    target: Target,
    python: str | None,
    functions: Sequence[str | Callable[..., Any]],
    choices: Mapping[str, Any],
) -> Dependencies:
    if isinstance(target, Dependencies):
        if functions or any(choice not in (None, ()) and choice != [] for choice in choices.values()):
            raise UsageError("dependencies are given ready, together with options of the analysis", "pass them there")
        return target
    from envpack.discover import analyze

    return analyze(target, functions=functions, python=python, **choices)


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
