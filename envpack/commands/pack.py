"""`envpack pack`: build the environment of each target in the store, and export it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from envpack.commands.options import ARGUMENTS, CommandWithArguments, selection_options
from envpack.commands.output import note, print_json, print_table, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envpack.pack import LayerEvent, Manifest, MissingLibrary


# Files of one distribution that a warning lists.
_SHOWN = 50


class _PackCommand(CommandWithArguments):
    """Lets `--trim` stand for `--trim=tests`: what follows it may be a target."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        args = ["--trim=tests" if word == "--trim" else word for word in args[:end]] + args[end:]
        return super().parse_args(ctx, args)


@click.command(cls=_PackCommand)
@click.argument("targets", metavar="TARGET[:FUNCTION]...", nargs=-1, required=True)
@click.option(
    "--python",
    metavar="PYTHON",
    help="Interpreter whose environment is packed, or a version such as 3.12 to pack for.  [default: this one]",
)
@click.option("--platform", metavar="PLATFORM", help="Another machine to pack for, such as manylinux_2_28_aarch64.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Export to FILE: .tar.zst, or plain .tar.gz.",
)
@click.option("--run", is_flag=True, help="Also run TARGET, with ARGS behind --, and count what it is seen to use.")
@click.option("--call", metavar="EXPR", help="Also call the one FUNCTION: 'FUNCTION(1, k=2)', evaluated in the script.")
@click.option(
    "--trim",
    metavar="[=tests|files]",
    type=click.Choice(["tests", "files"]),
    help="Leave out test suites that nothing refers to; or each file that --run or --call does not open.",
)
@selection_options
@click.option("--with-interpreter", is_flag=True, help="Bring the interpreter along, as a layer.")
@click.option("--accept-edited", is_flag=True, help="Do not warn of files that were edited or removed since installed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def pack(
    ctx: click.Context,
    targets: tuple[str, ...],
    python: str | None,
    platform: str | None,
    output: str | None,
    run: bool,
    call: str | None,
    trim: Literal["tests", "files"] | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    mapping: dict[str, str],
    with_interpreter: bool,
    accept_edited: bool,
    as_json: bool,
) -> None:
    """Pack what each TARGET needs into layers, one per distribution and one for local code.

    Layers go to the store (ENVPACK_STORE); those that are there are not built again. Each TARGET becomes one
    environment; its id can be given to `envpack inspect` and `envpack run`. A TARGET that is an archive, of envpack,
    conda-pack or venv-pack, is taken as a whole.

    With a version or a platform that are not those of the interpreter, the same distributions are fetched for such a
    machine, from the index that uv or pip is configured with.
    """
    from envpack.errors import UsageError
    from envpack.pack import Store
    from envpack.pack import pack as build

    if ARGUMENTS in ctx.meta and not run:
        raise click.UsageError("words behind -- are arguments of a run: --run expected")
    if (run or call is not None) and len(targets) > 1:
        raise UsageError(f"{len(targets)} targets to be run", "pack them one by one")
    if output is not None and len(targets) > 1:
        raise UsageError(f"{len(targets)} targets and one output file {output!r}", "pack them one by one")
    store = Store()
    answers: list[dict[str, Any]] = []
    for target in targets:
        missing: list[MissingLibrary] = []
        with _Progress(target) as progress:
            manifest = build(
                target,
                python=python,
                platform=platform,
                include=include,
                exclude=exclude,
                mapping=mapping,
                interpreter=with_interpreter,
                run=ctx.meta.get(ARGUMENTS, ()) if run else None,
                sample=call,
                trim=trim,
                store=store,
                output=output,
                progress=progress,
                warn=missing.append,
            )
        if not accept_edited:
            _warn(progress.events)
        for library in missing:
            note(f"warning: {library}")
        answers.append(_answer(target, manifest, progress.events, output) | {"missing_libraries": _told(missing)})
        if not as_json:
            _print(target, manifest, progress.events)
    if as_json:
        print_json({"schema": 1, "store": str(store.folder), "environments": answers})
    elif output is not None:
        import os

        print_table(("exported to", "size"), [(output, size_text(os.stat(output).st_size))], right=(1,))


class _Progress:
    """Collects what happens to the layers and shows a bar on a terminal."""

    def __init__(self, target: str) -> None:
        self.events: list[LayerEvent] = []
        self._target = target
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(f"packing {self._target}", total=None)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: LayerEvent) -> None:
        self.events.append(event)
        if self._bar is not None:
            self._bar.update(self._task, completed=event.done, total=event.total)


def _warn(events: list[LayerEvent]) -> None:
    for event in events:
        if event.edited:
            note(f"warning: {event.ref}: not as in RECORD, packed as they are: {_listed(event.edited)}")
        if event.missing:
            note(f"warning: {event.ref}: in RECORD, not on disk: {_listed(event.missing)}")
    if any(event.edited or event.missing for event in events):
        note("install these anew, or say --accept-edited where it is meant so")


def _listed(files: Sequence[str]) -> str:
    """Return how many files there are, and each in a line of its own; of very many the first, --json has them all."""
    more = [f"... and {len(files) - _SHOWN} more"] if len(files) > _SHOWN else []
    return "\n  ".join([f"{len(files)} files:", *files[:_SHOWN], *more])


def _print(target: str, manifest: Manifest, events: list[LayerEvent]) -> None:
    rows: list[tuple[str, ...]] = [
        (
            event.ref.name,
            event.ref.version or "-",
            event.ref.kind,
            size_text(event.ref.size_bytes),
            size_text(event.blob_bytes),
            "built" if event.built else "reused",
            event.ref.digest[:12],
        )
        for event in sorted(events, key=lambda event: event.ref.name)
    ]
    built = sum(event.built for event in events)
    rows.append(
        (
            "total",
            "",
            "",
            size_text(manifest.size_bytes),
            size_text(sum(event.blob_bytes for event in events)),
            f"{built} built, {len(events) - built} reused",
            "",
        )
    )
    click.echo(f"{target}: Python {manifest.python}, {manifest.abi}, {manifest.platform}")
    print_table(("layer", "version", "kind", "unpacked", "packed", "", "digest"), rows, right=(3, 4))
    if manifest.left_out_bytes:
        trimmed = sorted((ref for ref in manifest.layers if ref.left_out_bytes), key=lambda ref: -ref.left_out_bytes)
        shown = ", ".join(f"{size_text(ref.left_out_bytes)} of {ref.name}" for ref in trimmed[:5])
        click.echo(f"left out {size_text(manifest.left_out_bytes)}: {shown}{', ...' if trimmed[5:] else ''}")
    click.echo(f"environment {manifest.id}")


def _told(missing: list[MissingLibrary]) -> list[dict[str, str]]:
    return [{"library": one.library, "file": one.file, "layer": one.layer} for one in missing]


def _answer(target: str, manifest: Manifest, events: list[LayerEvent], output: str | None) -> dict[str, Any]:
    return {
        "target": target,
        "id": manifest.id,
        "manifest": manifest.to_dict(),
        "output": output,
        "built": sum(event.built for event in events),
        "reused": sum(not event.built for event in events),
        "layers": [
            {
                **event.ref.to_dict(),
                "built": event.built,
                "blob_bytes": event.blob_bytes,
                "edited": list(event.edited),
                "missing": list(event.missing),
            }
            for event in sorted(events, key=lambda event: event.ref.name)
        ],
    }
