"""Runs a target in environments that were packed for it: first to see what it opens, then to see that this suffices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from envpack.discover.analysis import Trial
from envpack.discover.environment.distributions import installed_distributions
from envpack.discover.environment.finder import ModuleFinder
from envpack.discover.environment.interpreter import Interpreter
from envpack.discover.parts import parts_of
from envpack.discover.tracing.launches import launch
from envpack.discover.tracing.opened import OpenedFiles
from envpack.discover.tracing.session import Outcome, Session, user_path
from envpack.errors import TrimError


class Rehearsal:
    """A program that can be run again and again; a context manager.

    Args:
        target: what `analyze` was asked about: a script, `script.py:function`, `-m module`, or a function.
        functions: more functions of the script.
        interpreter: whose environment the program comes from.
        trial: how it is run.

    Raises:
        UsageError: it cannot be run like this.
        SampleError: the sample call cannot be made.
    """

    def __init__(
        self,
        target: str | Callable[..., Any],
        functions: Sequence[str | Callable[..., Any]],
        interpreter: Interpreter,
        trial: Trial,
    ) -> None:
        finder = ModuleFinder(interpreter, installed_distributions(interpreter.sys_path))
        _, parts = parts_of(target, functions, finder)
        self._folders = [item.location for item in finder.index]
        self._launch = launch(target, parts, trial, finder)
        self._session = Session([])

    def __enter__(self) -> Rehearsal:
        self._program = self._launch.program(self._session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def touched(self, environment: Path) -> set[str]:
        """Run it in an environment and return the files there that are opened, as paths in the environment.

        Raises:
            TrimError: it fails there.
        """
        opened = OpenedFiles(environment)
        self._run(environment, opened, "in its whole pack, which says nothing about what it needs")
        return opened.paths

    def repeat(self, environment: Path) -> None:
        """Run it in an environment that holds what was opened.

        Raises:
            TrimError: it fails there.
        """
        self._run(environment, nullcontext(), "with nothing but the files that it had opened before")

    def _run(self, environment: Path, around: OpenedFiles | nullcontext[None], where: str) -> None:
        python = os.fspath(environment / "bin" / "python")
        with around:
            outcome: Outcome = self._session.run(python, self._program, path=user_path(self._folders), quiet=True)
        if outcome.exit_code:
            raise TrimError(f"{self._program.target} {outcome.reason} {where}", "trim without files, or not at all")
