"""`envpack history pack`: how long would a node take for these calls with a policy, and how long with a prophet?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import click

if TYPE_CHECKING:
    from envpack_monitor.predict.packing import Packing


@click.command("pack")
@click.argument("source", metavar="TRACE.csv|CATEGORY")
@click.option("--cores", type=click.FloatRange(0, min_open=True), default=32, show_default=True, help="Of the node.")
@click.option(
    "--memory", default="128GB", show_default=True, metavar="SIZE", help="Of the node; at least the largest peak."
)
@click.option("--policy", default="default", show_default=True, metavar="NAME", help="What decides about memory.")
@click.option(
    "--ask",
    type=click.Choice(("dispatch", "submit")),
    default="dispatch",
    show_default=True,
    help="Ask the policy when a call begins, or for all calls at once when they are submitted.",
)
@click.option(
    "--kill",
    default="curve",
    show_default=True,
    metavar="end|curve|FRACTION",
    help="When an attempt crosses its allocation; with `end` it never goes on with more memory.",
)
@click.option(
    "--no-features", is_flag=True, help="Without what is known before a call: input sizes and users' presets."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pack_calls(
    source: str, cores: float, memory: str, policy: str, ask: str, kill: str, no_features: bool, as_json: bool
) -> None:
    """Submit all calls of a trace, or of a category, to one node at once, and see when the last one is done.

    The oracle knows every peak. What needs more than it was promised goes on with more as long as memory is free, and
    is killed and tried again otherwise.
    """
    from envpack_monitor.commands.output import print_json
    from envpack_monitor.commands.traces import load_trace, node_for, progress
    from envpack_monitor.predict import kill_mode, make_policy
    from envpack_monitor.predict.packing import lower_bound, oracle, pack

    failed = kill_mode(kill)
    trace = load_trace(source)
    node = node_for(trace.largest_peak_bytes, memory, cores)
    calls = (trace.without_features() if no_features else trace).calls
    progress(f"packing {len(calls)} calls")
    ask = cast("Literal['dispatch', 'submit']", ask)
    packing = pack(calls, make_policy(policy, node, failed), node, failed, ask, grow=kill != "end")
    progress(f"packing {len(calls)} calls as the oracle")
    oracle_s = oracle(calls, node)
    progress("")
    if as_json:
        print_json({"makespan_s": packing.makespan_s, "oracle_s": oracle_s})
    else:
        _print(policy, packing, oracle_s, lower_bound(calls, node), cores)


def _print(policy: str, packing: Packing, oracle_s: float, bound_s: float, cores: float) -> None:
    from envpack_monitor.commands.output import print_table
    from envpack_monitor.units import format_seconds

    rows = [
        ("makespan", format_seconds(packing.makespan_s), f"{packing.makespan_s / oracle_s:.2f}"),
        ("oracle: knows every peak", format_seconds(oracle_s), "1.00"),
        ("bound: work over the node, longest call", format_seconds(bound_s), f"{bound_s / oracle_s:.2f}"),
        ("attempts killed", str(packing.failures), ""),
        ("given more memory while they ran", str(packing.grown), ""),
        ("cores busy", f"{packing.busy_core_s / packing.makespan_s / cores:.0%}", ""),
    ]
    print_table((policy, "", "of the oracle"), rows)
