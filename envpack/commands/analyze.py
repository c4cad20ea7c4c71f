"""`envpack analyze`: what scripts or some of their functions need, and why, in the format that is asked for."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from envpack.commands.options import ARGUMENTS, CommandWithArguments, selection_options

if TYPE_CHECKING:
    from envpack.discover import Dependencies


@click.command(cls=CommandWithArguments)
@click.argument("targets", metavar="TARGET[:FUNCTION]...", nargs=-1)
@click.option("-m", "module", metavar="MODULE", help="Instead of TARGET: what `python -m MODULE` runs.")
@click.option(
    "--function", "functions", multiple=True, metavar="NAME", help="A function of the one script; repeatable."
)
@click.option("--python", metavar="PYTHON", help="Interpreter whose environment is asked about.  [default: this one]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "requirements", "pep723", "conda", "pylock"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--hashes", is_flag=True, help="With --format requirements: all distributions, with hashes of an index.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write to FILE instead.")
@click.option("--run", is_flag=True, help="Also run TARGET, with ARGS, and count what it is seen to use.")
@click.option("--call", metavar="EXPR", help="Also call the one FUNCTION: 'FUNCTION(1, k=2)', evaluated in the script.")
@click.option("--no-verify", is_flag=True, help="After --run or --call, do not try the answer by doing it once more.")
@click.option("--load", is_flag=True, help="Import the script elsewhere and look at FUNCTION as the object it then is.")
@click.option("--diff", metavar="OLD.json", help="Print what has changed since an answer of --format json.")
@selection_options
@click.pass_context
def analyze(
    ctx: click.Context,
    targets: tuple[str, ...],
    module: str | None,
    functions: tuple[str, ...],
    python: str | None,
    form: str,
    as_json: bool,
    hashes: bool,
    output: str | None,
    run: bool,
    call: str | None,
    no_verify: bool,
    load: bool,
    diff: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    mapping: dict[str, str],
) -> int:
    """Say which distributions and local files each TARGET needs, and why.

    TARGET is a Python script, a notebook, a folder, or a quoted pattern such as 'scripts/**/*.py'; with :FUNCTION
    (or --function) only what that function reaches counts. The folder of a package means its modules, another folder
    every Python file and notebook below it. Nothing of them is executed unless --load, --run or --call asks for it.
    Ends with exit code 1 if a module is imported that is not installed, or if a file is not valid Python.
    """
    from envpack.discover import analyze as find

    if ARGUMENTS in ctx.meta and not run:
        raise click.UsageError("words behind -- are arguments of a run: --run expected")
    if as_json and form not in ("table", "json"):
        raise click.UsageError(f"--json means --format json: --format {form} cannot be given")
    form = "json" if as_json else form
    if diff is not None and form != "table":
        raise click.UsageError("--diff has a form of its own: --format and --json cannot be given")
    if hashes and form != "requirements":
        raise click.UsageError("--hashes goes with --format requirements")
    if bool(targets) == (module is not None):
        raise click.UsageError("one of TARGET and -m MODULE expected")
    if load and module is not None:
        raise click.UsageError("--load looks at functions of a script: FILE.py:FUNCTION expected, not -m MODULE")
    old = _read(diff) if diff is not None else None
    # Asked as another one: with `python -m envpack` the folder that we stand in is on our own search path.
    asked = python or sys.executable
    target = f"-m {module}" if module is not None else targets[0]
    found = find(
        target if len(targets) < 2 else targets,
        functions=functions,
        python=asked,
        include=include,
        exclude=exclude,
        mapping=mapping,
        run=ctx.meta.get(ARGUMENTS, ()) if run else None,
        sample=call,
        verify=not no_verify,
        load=load,
    )
    if old is None:
        is_terminal = output is None and sys.stdout.isatty()
        text = _render(found, form, asked, is_terminal=is_terminal, hashes=hashes)
    else:
        text = _changes(old, found)
    _write(text, output)
    return _verdict(found)


def _verdict(found: Dependencies) -> int:
    """Say on stderr what keeps the answer from being complete, and return the exit code."""
    from envpack.errors import BrokenTargetsError, ModuleNotInstalledError, RunFailedError

    exit_code = 0
    for check in (found.raise_broken, found.raise_missing, found.raise_failed):
        try:
            check()
        except (BrokenTargetsError, ModuleNotInstalledError, RunFailedError) as error:
            click.echo(f"envpack: error: {error}", err=True)
            exit_code = error.exit_code
    return exit_code


def _read(path: str) -> Dependencies:
    from envpack.discover import Dependencies
    from envpack.errors import DependenciesFormatError, UsageError

    try:
        with open(path, encoding="utf-8") as file:
            return Dependencies.from_dict(json.load(file))
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {error.strerror}", "name a file of --format json") from None
    except ValueError as error:
        raise DependenciesFormatError(f"{path}: not JSON: {error}", "name a file of --format json") from None


def _changes(old: Dependencies, found: Dependencies) -> str:
    from envpack.discover.changes import changes

    return "".join(f"{line}\n" for line in changes(old, found))


def _render(found: Dependencies, form: str, python: str, *, is_terminal: bool, hashes: bool) -> str:
    if form == "json":
        return json.dumps(found.to_dict(), indent=2) + "\n"
    if form == "table":
        return _table(found, is_terminal=is_terminal)
    if form == "pylock" or hashes:
        return _locked(found, form, python)
    from envpack.discover.formats.export import to_conda, to_pep723, to_requirements

    if form == "conda":
        from envpack.discover.environment.conda import conda_packages
        from envpack.discover.environment.interpreter import inspect_interpreter

        return to_conda(found, conda_packages(inspect_interpreter(python).prefix))
    return to_pep723(found) if form == "pep723" else to_requirements(found)


def _table(found: Dependencies, *, is_terminal: bool) -> str:
    from shutil import get_terminal_size

    from envpack.commands.dependency_table import render

    def bold(text: str) -> str:
        return click.style(text, bold=True)

    # COLUMNS counts everywhere; a pipe has no width of its own, and gets the 80 columns of a page.
    return render(found, width=get_terminal_size((80, 24)).columns, title=bold if is_terminal else str)


def _locked(found: Dependencies, form: str, python: str) -> str:
    from envpack.discover.environment.distributions import installed_distributions
    from envpack.discover.environment.interpreter import inspect_interpreter
    from envpack.discover.formats.lock import to_hashed_requirements, to_pylock
    from envpack.errors import UsageError
    from envpack.settings import index_url

    address = index_url() or ""
    if not address and any(not item.url for item in found.distributions if item.role != "optional"):
        raise UsageError("no package index is named, and hashes and addresses come from there", "set PIP_INDEX_URL")
    interpreter = inspect_interpreter(python)
    index = installed_distributions(interpreter.sys_path)
    if form == "pylock":
        return to_pylock(found, index, address, interpreter.markers)
    return to_hashed_requirements(found, index, address)


def _write(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    from envpack.errors import UsageError

    beside = f"{output}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, output)
    except OSError as error:
        if os.path.exists(beside):
            os.unlink(beside)
        raise UsageError(
            f"cannot write {output!r}: {error.strerror}", "name a file in a folder that you may write"
        ) from None
