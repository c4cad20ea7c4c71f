"""`envpack run`: run a command where a pack, or what a script needs, is all that there is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from envpack.pack import Manifest, Store


@click.command()
@click.argument("target", metavar="PACK|TARGET[:FUNCTION]|ENV_ID")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--limits", "limits_text", metavar="LIMITS", help="What ends it early, such as memory=2GB,wall=60s.")
@click.option("--category", metavar="NAME", help="Under which name its usage is remembered.")
def run(target: str, command: tuple[str, ...], limits_text: str | None, category: str | None) -> int:
    """Run COMMAND in the environment of a pack or other archive, of a script or function, or of an id in the store.

    The environment is unpacked once per store. COMMAND finds its `python` and scripts first, and sees no other
    packages. Exit code: 0 if the command's is 0, 1 if it failed, 2 if there is no such command, 3 if a limit was
    exceeded.
    """
    from envpack.pack import Store
    from envpack_monitor.history.recorder import flush_default
    from envpack_monitor.limits import Limits
    from envpack_monitor.trees.command import run_command

    limits = Limits.parse(limits_text) if limits_text is not None else None
    store = Store()
    prefix = store.materialise(_manifest(target, store))
    result = run_command(command, limits=limits, category=category, env=_environ(str(prefix)), is_alone=True)
    flush_default()
    if result.error is not None:
        raise result.error
    if result.exit_code:
        ending = f"exit status {result.exit_code}" if result.exit_code > 0 else f"signal {-result.exit_code}"
        click.echo(f"envpack: {command[0]!r} failed: {ending}", err=True)
    return 1 if result.exit_code else 0


def _manifest(target: str, store: Store) -> Manifest:
    """Find out whether a target is a pack, an id or a program, and return its environment."""
    from envpack.pack import import_environment, pack
    from envpack.pack.manifest import is_digest

    if os.path.isfile(target) and not target.endswith((".py", ".ipynb")):
        return import_environment(target, store)
    if not os.path.exists(target) and is_digest(target):
        return store.manifest(target)
    return pack(target, store=store)


def _environ(prefix: str) -> dict[str, str]:
    """Return the variables of the command: the environment's programs first, nothing that leads to other packages."""
    hidden = {"PYTHONPATH", "PYTHONHOME"}
    path = os.pathsep.join([os.path.join(prefix, "bin"), os.environ.get("PATH", os.defpath)])
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PATH": path, "VIRTUAL_ENV": prefix, "PYTHONNOUSERSITE": "1"}
