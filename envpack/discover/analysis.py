"""`analyze`: from targets to their `Dependencies`.

A target is located in its source, `Reach` follows what it uses, and what it imports becomes distributions with their
closure. Nothing of the user's is executed. Several targets are answered one after another and put together: each is a
program with a search path of its own, what was read of the environment is shared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from envpack.discover.combine import combine
from envpack.discover.dependencies import Dependencies, FunctionDependencies, Unresolved
from envpack.discover.environment.distributions import installed_distributions
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.environment.interpreter import inspect_interpreter
from envpack.discover.expansion import Member, Target, expand, is_several
from envpack.discover.merge import Choices, Part, merge
from envpack.discover.parts import parts_of
from envpack.discover.target import split_target
from envpack.errors import SourceSyntaxError, TargetNotFoundError, UsageError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def analyze(
    target: Target | Sequence[Target],
    *,
    functions: Sequence[str | Callable[..., Any]] = (),
    python: str | os.PathLike[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    mapping: Mapping[str, str] | None = None,
    run: Sequence[str] | None = None,
    sample: str | Sequence[Any] | None = None,
    sample_keywords: Mapping[str, Any] | None = None,
    verify: bool = True,
    load: bool = False,
) -> Dependencies:
    """Find the distributions and local files that a script or some of its functions need.

    Nothing of the user's is executed unless `run` or `sample` asks for it.

    Args:
        target: a function or another callable; the path of a script, a notebook or a folder; or
            `script.py:function`; or a pattern such as `scripts/**/*.py`; or `-m module` for what `python -m module`
            runs. The folder of a package means all its modules; another folder means each Python file and notebook
            below it as a script of its own. A list of any of these means all of them.
        functions: more functions of a single script: their qualified names, or the functions themselves; with none at
            all the whole script is meant.
        python: the interpreter whose environment is asked about; the running one by default.
        include: distributions to add, as requirement strings (`pkg` or `pkg[extra]`).
        exclude: distributions or modules to leave out.
        mapping: distribution of modules whose own cannot be found, such as `{"yaml": "PyYAML"}`.
        run: also run the script, notebook or module with these arguments and count what it is seen to use; of
            functions, what happens while they are called in that run.
        sample: also call the one function that is asked about, and count what that uses. Its arguments: a sequence for
            a live function; for `script.py:function` text of Python that is evaluated among the names of the script,
            `function(1, k=2)` or `(1,)`.
        sample_keywords: arguments by name of the sample call of a live function.
        verify: after `run` of a whole target or `sample`, do it once more with nothing but the answer, and add what is
            missed until it ends as it did before.
        load: import the script, in a process of its own, and look at the functions as live objects: what their names
            are bound to then (partial objects, instances, what decorators made) is walked like a given callable.

    Returns:
        What is needed, and why. A module that is not installed is in `unresolved`; see `Dependencies.raise_missing`.
        So is one of several files that cannot be parsed; see `Dependencies.raise_broken`.

    Raises:
        TargetNotFoundError: there is no such script, or it cannot be read.
        FunctionNotFoundError: the script has no such function.
        SourceSyntaxError: the only script is not valid Python.
        InterpreterError: `python` is no interpreter.
        UsageError: a distribution to include or to map to is not installed; what is asked for cannot be run.
        SampleError: the script does not load, or the arguments of the sample call cannot be evaluated or sent.
        LoadError: `load` was asked for, and the script fails when it is imported.
    """
    trial = Trial(run, sample, sample_keywords or {}, verify) if run is not None or sample is not None else None
    if load and trial is not None:
        raise UsageError("load together with a run or a sample call", "ask for one of them: each looks at live objects")
    if load:
        return _loaded(target, functions, python=python, include=include, exclude=exclude, mapping=mapping)
    analysis = _Analysis(python, include, exclude, mapping or {})
    if isinstance(target, str) or not isinstance(target, Sequence):
        if not is_several(target):
            return analysis.single(os.fspath(target) if isinstance(target, os.PathLike) else target, functions, trial)
        target = [target]
    if not target:
        raise UsageError("no target", "name a function, a script or a folder")
    if functions:
        names = ", ".join(str(getattr(function, "__qualname__", function)) for function in functions)
        raise UsageError(f"functions of several targets: {names}", "name them as FILE.py:FUNCTION")
    if trial is not None:
        raise UsageError("several targets cannot be run", "name one script, notebook, module or function")
    return analysis.several(target)


@dataclass(frozen=True, slots=True)
class Trial:
    """How a target is run beside being read; the fields are arguments of `analyze`."""

    run: Sequence[str] | None
    sample: str | Sequence[Any] | None
    sample_keywords: Mapping[str, Any]
    verify: bool


def _loaded(
    target: Target | Sequence[Target], functions: Sequence[str | Callable[..., Any]], **choices: Any
) -> Dependencies:
    """Answer for functions of one script after another, each imported in a process of its own."""
    from envpack.discover.live.loading import analyze_loaded

    if isinstance(target, str | os.PathLike):
        if not is_several(target):
            path, name = split_target(os.fspath(target))
            names = [str(getattr(function, "__qualname__", function)) for function in functions]
            return analyze_loaded(path, [*([name] if name else []), *names], target=os.fspath(target), **choices)
        target = [target]
    if callable(target):
        return analyze(target, functions=functions, **choices)  # it is live as it is
    answers = [_loaded(member.target, (), **choices) for member in expand(target)]
    return _together(target, answers)


class _Analysis:
    """Answers one target after another for the same environment and the same choices."""

    def __init__(
        self,
        python: str | os.PathLike[str] | None,
        include: Iterable[str],
        exclude: Iterable[str],
        mapping: Mapping[str, str],
    ) -> None:
        self._interpreter = inspect_interpreter(python)
        index = installed_distributions(self._interpreter.sys_path)
        self._choices = Choices(index, include, exclude, mapping)
        self._finder = ModuleFinder(self._interpreter, index)

    def single(
        self,
        target: str | Callable[..., Any],
        functions: Sequence[str | Callable[..., Any]] = (),
        trial: Trial | None = None,
    ) -> Dependencies:
        """Answer for one target that is a program of its own."""
        finder = self._finder.sibling()
        name, parts = parts_of(target, functions, finder)

        def answer(some: Sequence[Part]) -> Dependencies:
            return merge(name, self._interpreter, some, self._choices)

        if trial is None:
            return answer(parts)
        from envpack.discover.tracing.launches import launch
        from envpack.discover.tracing.observation import observe

        return observe(parts, launch(target, parts, trial, finder), finder, self._choices, answer, verify=trial.verify)

    def several(self, targets: Sequence[Target]) -> Dependencies:
        """Answer for several; what is wrong with a question is raised after all of them have been tried."""
        answers: list[Dependencies] = []
        wrong: list[UsageError] = []
        for member in expand(targets):
            try:
                answers.append(self._member(member))
            except UsageError as error:
                wrong.append(error)
        if len(wrong) == 1:
            raise wrong[0]
        if wrong:
            raise UsageError("; ".join(map(str, wrong)))
        return _together(targets, answers)

    def _member(self, member: Member) -> Dependencies:
        try:
            if member.problem:
                raise TargetNotFoundError(member.problem)
            return self.single(member.target)
        except SourceSyntaxError as error:
            return self._broken(str(member.target), error.path, error.line, error.explanation)
        except TargetNotFoundError as error:
            # A file that somebody named must be there; one that was only found may be closed to us.
            if not member.is_found:
                raise
            return self._broken(str(member.target), os.path.abspath(str(member.target)), 0, error.message)

    def _broken(self, target: str, file: str, line: int, reason: str) -> Dependencies:
        item = Unresolved("", file, line, "source", reason)
        function = FunctionDependencies(target, (), (), (), (item,))
        interpreter = self._interpreter
        return Dependencies(target, interpreter.version, interpreter.platform, (function,), (), (), (), (item,))


def _together(targets: Sequence[Target], answers: Sequence[Dependencies]) -> Dependencies:
    import shlex

    return combine(shlex.join(map(_named, targets)), answers)


def _named(target: Target) -> str:
    return str(getattr(target, "__qualname__", target)) if callable(target) else os.fspath(target)
