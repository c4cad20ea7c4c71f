"""`envpack predict`: what to set aside for the next call of a category, and what a fixed guess would waste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from envpack_monitor.allocation import Allocation
    from envpack_monitor.predict import Explanation, Replay
    from envpack_monitor.usage import Usage


@click.command()
@click.argument("category")
@click.option("--feature", "features_text", multiple=True, metavar="NAME=NUMBER", help="Of the next call; repeatable.")
@click.option("--fixed", metavar="LIMITS", help="The guess to compare with.  [default: this machine's memory per core]")
@click.option("--explain", is_flag=True, help="Say which rule decides and what its retries are expected to cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(category: str, features_text: tuple[str, ...], fixed: str | None, explain: bool, as_json: bool) -> None:
    """Print the allocation for the next call of CATEGORY beside a fixed guess, and what each would have wasted."""
    from envpack_monitor.commands.output import print_json
    from envpack_monitor.history.history import History
    from envpack_monitor.learning import open_predictor, tells_need
    from envpack_monitor.predict import Fixed, default_predictor, replay

    remembered = History()
    calls = [call for call in remembered.calls(category) if tells_need(call)]
    explanation = open_predictor(remembered).explain(category, _features(features_text))
    guess = _guess(fixed)
    ours, theirs = replay(default_predictor(), calls), replay(Fixed(guess, _node(calls, guess)), calls)
    if as_json:
        value: dict[str, Any] = {"schema": 1, "category": category, **explanation.to_dict()}
        print_json(value | {"fixed": guess.to_dict(), "replay": ours.to_dict(), "fixed_replay": theirs.to_dict()})
        return
    _print(category, explanation, guess, ours, theirs)
    if explain:
        _print_why(explanation)


def _print(category: str, explanation: Explanation, guess: Allocation, ours: Replay, theirs: Replay) -> None:
    from envpack_monitor.commands.output import print_table
    from envpack_monitor.units import format_bytes

    allocation = explanation.allocation
    rows = [
        ("memory", format_bytes(allocation.memory_bytes or 0), format_bytes(guess.memory_bytes or 0)),
        ("cores", f"{allocation.cores:g}", f"{guess.cores:g}"),
        *_seldom("disk", allocation.disk_bytes),
        *_seldom("GPU memory", allocation.gpu_memory_bytes),
        ("stuck after", _seconds(allocation.wall_s), _seconds(guess.wall_s)),
        (f"over {ours.calls} calls: wasted", _byte_s(ours.wasted_byte_s), _byte_s(theirs.wasted_byte_s)),
        ("used share of the allocated", f"{ours.awe:.2f}", f"{theirs.awe:.2f}"),
        ("attempts too small", str(ours.failures), str(theirs.failures)),
    ]
    print_table((category, "predicted", "fixed guess"), rows)


def _print_why(explanation: Explanation) -> None:
    from envpack_monitor.units import format_bytes

    print(f"rule: {explanation.rule}; seen: {explanation.calls} calls")
    if explanation.retry_chance is not None:
        cost = f", which costs {explanation.retry_cost:.1%} of what is allocated" if explanation.retry_cost else ""
        print(f"expected to need a retry: {explanation.retry_chance:.1%} of the calls{cost}")
    if explanation.ladder_bytes:
        print(f"allocations: {', then '.join(map(format_bytes, explanation.ladder_bytes))}, then doubled")


def _features(texts: tuple[str, ...]) -> dict[str, float]:
    from envpack_monitor.errors import FormatError

    features, problems = {}, []
    for text in texts:
        name, _, value = text.partition("=")
        try:
            features[name] = float(value)
        except ValueError:
            problems.append(f"{text!r} is not NAME=NUMBER")
    if problems:
        raise FormatError(f"feature: {'; '.join(problems)}", "--feature rows=1000")
    return features


def _guess(fixed: str | None) -> Allocation:
    import os

    from envpack_monitor.allocation import Allocation
    from envpack_monitor.errors import FormatError
    from envpack_monitor.limits import Limits

    if fixed is None:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (os.cpu_count() or 1)
        return Allocation(memory_bytes=memory_bytes)
    limits = Limits.parse(fixed)
    if limits.memory_bytes is None:
        raise FormatError(f"--fixed: {fixed!r} names no memory", "--fixed memory=2GB")
    return Allocation(memory_bytes=limits.memory_bytes, wall_s=limits.wall_s)


def _node(calls: list[Usage], guess: Allocation) -> Allocation:
    """Return what a call gets for which the guess was too small: at least twice as much, and enough."""
    from dataclasses import replace

    largest = max((call.peak_memory_bytes or 0 for call in calls), default=0)
    return replace(guess, memory_bytes=max(2 * (guess.memory_bytes or 0), largest))


def _seldom(resource: str, size: int | None) -> list[tuple[str, str, str]]:
    from envpack_monitor.units import format_bytes

    return [] if size is None else [(resource, format_bytes(size), "-")]


def _seconds(value: float | None) -> str:
    from envpack_monitor.units import format_seconds

    return "-" if value is None else format_seconds(value)


def _byte_s(value: float) -> str:
    return f"{value / 1e9:.3g} GB s"
