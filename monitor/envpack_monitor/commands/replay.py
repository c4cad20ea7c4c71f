"""`envpack history replay`: what would other policies of allocation have cost for these calls?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envpack_monitor.allocation import Allocation
    from envpack_monitor.predict import Replay
    from envpack_monitor.predict.failed import FailedRun
    from envpack_monitor.predict.trace import Trace


@click.command("replay")
@click.argument("source", metavar="TRACE.csv|CATEGORY")
@click.option("--policy", "names", multiple=True, metavar="NAME", help="Repeatable.  [default: all that can run]")
@click.option(
    "--kill", default="end", show_default=True, metavar="end|curve|FRACTION", help="When a failed attempt ends."
)
@click.option("--no-features", is_flag=True, help="Without input sizes and users' presets.")
@click.option(
    "--node-memory", default="128GB", show_default=True, metavar="SIZE", help="At least the largest peak or preset."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay_calls(
    source: str, names: tuple[str, ...], kill: str, no_features: bool, node_memory: str, as_json: bool
) -> None:
    """Replay a trace, or the calls of a category, against policies: what would each have allocated?

    Each call is predicted, then observed, in the order given, from a cold start. AWE is memory used times time over
    memory allocated times time, failed attempts included. `us` are means per call.
    """
    from envpack_monitor.commands.output import print_json
    from envpack_monitor.commands.traces import load_trace, node_for
    from envpack_monitor.predict import kill_mode

    failed = kill_mode(kill)
    trace = load_trace(source)
    if no_features:
        trace = trace.without_features()
    results = list(_replays(trace, names, node_for(trace.largest_bytes, node_memory), failed))
    results.sort(key=lambda result: (-result["awe"], result["policy"]))
    if as_json:
        print_json({"trace": source, "policies": results})
    else:
        _print(results)


def _replays(trace: Trace, names: Sequence[str], node: Allocation, failed: FailedRun) -> Iterator[dict[str, Any]]:
    import time

    from envpack_monitor.commands.output import note
    from envpack_monitor.commands.traces import progress
    from envpack_monitor.errors import MissingLibraryError
    from envpack_monitor.predict import make_policy, policy_names, replay

    chosen = names or policy_names()
    for name in chosen:
        progress(f"{name}: {len(trace.calls)} calls")
        try:
            policy = make_policy(name, node, failed)
        except MissingLibraryError as error:
            if names:
                raise
            note(f"envpack: left out: {error}")
            continue
        yield _figures(name, replay(policy, trace.usages, failed, time.perf_counter))
    progress("")


def _figures(name: str, result: Replay) -> dict[str, Any]:
    return {
        "policy": name,
        "awe": round(result.awe, 6),
        "wastage_gbh": round(result.wasted_byte_s / 1e9 / 3600, 6),
        "failures": result.failures,
        "predict_us": round(result.predict_s * 1e6, 3),
        "observe_us": round(result.observe_s * 1e6, 3),
    }


def _print(results: Sequence[dict[str, Any]]) -> None:
    from envpack_monitor.commands.output import print_table

    heads = ("policy", "AWE", "wasted GB h", "failures", "us per predict", "us per observe")
    rows = [
        (
            each["policy"],
            f"{each['awe']:.3f}",
            f"{each['wastage_gbh']:.4g}",
            str(each["failures"]),
            f"{each['predict_us']:.1f}",
            f"{each['observe_us']:.1f}",
        )
        for each in results
    ]
    print_table(heads, rows)
