"""`envpack worker`: offer this machine to an executor that runs elsewhere."""

from __future__ import annotations

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
@click.option("--wall-time", metavar="TIME", help="Leave after so long, such as 90s, 30min or 2h.")
@click.option("--store", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the store of layers.")
@click.option("--join-within", metavar="TIME", default="30s", show_default=True, help="Wait so long for an answer.")
def worker(
    address: str,
    key_file: Path,
    cores: int | None,
    memory: str | None,
    context_memory: str | None,
    wall_time: str | None,
    store: Path | None,
    join_within: str,
) -> int:
    """Run calls for an executor elsewhere until it ends.

    The executor prints nothing: ask its `nodes.address` and `nodes.key_file`. The worker leaves by itself when the
    executor ends or is silent, and takes everything that it has started with it.
    """
    from envpack_executor import settings
    from envpack_executor.curve import WorkerKey
    from envpack_executor.worker.loop import Worker, stop_on_signals
    from envpack_monitor.units import parse_seconds

    memory_bytes = settings.usable_memory() if memory is None else _checked_bytes(memory, "--memory")
    context_bytes = memory_bytes // 2 if context_memory is None else _checked_bytes(context_memory, "--context-memory")
    agent = Worker(
        _checked_address(address),
        WorkerKey.read(key_file),
        cores or settings.usable_cores(),
        memory_bytes,
        context_bytes,
        store=None if store is None else str(store),
        wall_time_s=None if wall_time is None else parse_seconds(wall_time),
        join_within_s=parse_seconds(join_within),
    )
    stop_on_signals(agent)
    click.echo(f"envpack worker left: {agent.run()}", err=True)
    return 0


def _checked_bytes(text: str, option: str) -> int:
    from envpack_monitor.units import parse_bytes

    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    if not size:
        raise click.BadParameter(f"{text!r}, expected more than 0", param_hint=option)
    return size


def _checked_address(address: str) -> str:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not host or not port.isdigit():
        raise click.BadParameter(f"{address!r}, expected tcp://HOST:PORT", param_hint="--connect")
    return address
