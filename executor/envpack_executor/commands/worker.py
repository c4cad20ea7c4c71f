"""`envpack worker`: offer this machine to an executor that runs elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click


@click.command()
@click.option("--connect", "address", required=True, metavar="tcp://HOST:PORT", help="Where the executor listens.")
@click.option(
    "--key", "key_file", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The executor's key file."
)
@click.option("--cores", type=click.IntRange(min=1), help="Calls at once; all usable cores by default.")
@click.option("--memory", metavar="SIZE", help="What calls may have together, such as 16GB; 9/10 of what there is.")
@click.option("--context-memory", metavar="SIZE", help="What warm processes may keep together; 1/2 of --memory.")
@click.option("--disk", metavar="SIZE", help="What calls that ask for disk may write together, such as 100GB.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="How many GPUs calls that ask for some may use.")
@click.option("--wall-time", metavar="TIME", help="Be gone after so long, such as 90s, 30min or 2h.")
@click.option("--grace", metavar="TIME", help="Let calls that run end within so long before leaving; 20s by default.")
@click.option(
    "--store",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the store; {NAME}, {host} are filled in.",
)
@click.option("--block", metavar="NAME", default="", help="Name of the block that this worker belongs to.")
@click.option("--share-at", default="", metavar="HOST:PORT", help="Pass layers on to other workers here.")
@click.option("--until-eof", is_flag=True, help="Leave at once when standard input ends: whoever holds it is gone.")
@click.option("--join-within", metavar="TIME", default="30s", show_default=True, help="Wait so long for an answer.")
def worker(
    address: str,
    key_file: Path,
    cores: int | None,
    memory: str | None,
    context_memory: str | None,
    disk: str | None,
    gpus: int,
    wall_time: str | None,
    grace: str | None,
    store: Path | None,
    block: str,
    share_at: str,
    until_eof: bool,
    join_within: str,
) -> int:
    """Run calls for an executor elsewhere until it ends.

    In --store, {NAME} stands for that environment variable here, and {host} for the name of this machine.

    The executor prints nothing: ask its `nodes.address` and `nodes.key_file`. The worker leaves by itself when the
    executor ends, or is silent and does not answer again within --join-within, with everything that it has started. On
    SIGTERM, and before its wall time is over, it takes no more calls and leaves when those that run have ended; a
    second signal ends it at once.
    """
    from envpack_executor import settings
    from envpack_executor.curve import WorkerKey
    from envpack_executor.worker.loop import GRACE_S, Worker, stop_at_end_of_input, stop_on_signals
    from envpack_executor.worker.membership import Offer

    memory_bytes = settings.usable_memory() if memory is None else _checked_bytes(memory, "--memory")
    context_bytes = memory_bytes // 2 if context_memory is None else _checked_bytes(context_memory, "--context-memory")
    _check_place(share_at)
    offer = Offer(
        _checked_address(address),
        WorkerKey.read(key_file),
        cores or settings.usable_cores(),
        memory_bytes,
        context_bytes,
        None if store is None else filled_in(str(store), "--store"),
        _checked_seconds(join_within, "--join-within"),
        0 if disk is None else _checked_bytes(disk, "--disk"),
        gpus,
        block,
        share_at=share_at,
    )
    wall_time_s = None if wall_time is None else _checked_seconds(wall_time, "--wall-time")
    member = Worker(offer, wall_time_s, GRACE_S if grace is None else _checked_seconds(grace, "--grace"))
    stop_on_signals(member)
    if until_eof:
        stop_at_end_of_input(member)
    click.echo(f"envpack worker left: {member.run()}", err=True)
    return 0


def filled_in(folder: str, option: str) -> str:
    """Return a folder whose name is known on this machine only, such as that of a job.

    Braces, because launchers hand commands through shells of other machines, which would fill in `$NAME` with theirs.
    """
    known = {**os.environ, "host": os.uname().nodename}

    def value(name: re.Match[str]) -> str:
        if name[1] not in known:
            raise click.BadParameter(f"{folder!r} names a variable that is not set here", param_hint=option)
        return known[name[1]]

    return os.path.expanduser(re.sub(r"\{(\w+)\}", value, folder))


def _checked_bytes(text: str, option: str) -> int:
    from envpack_monitor.units import parse_bytes

    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    if not size:
        raise click.BadParameter(f"{text!r}, expected more than 0", param_hint=option)
    return size


def _checked_seconds(text: str, option: str) -> float:
    from envpack_monitor.units import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _check_place(place: str) -> None:
    host, _, port = place.rpartition(":")
    if place and (not host or not port.isdigit()):
        raise click.BadParameter(f"{place!r}, expected HOST:PORT", param_hint="--share-at")


def _checked_address(address: str) -> str:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not host or not port.isdigit():
        raise click.BadParameter(f"{address!r}, expected tcp://HOST:PORT", param_hint="--connect")
    return address
