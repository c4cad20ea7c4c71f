"""How many blocks there should be. Pure: what waits, what is there and the limits in; what to do out.

    open calls, by parallelism ──▶ slots wanted ── slots that are there or on their way ──▶ lacking: submit
                                                                                       └──▶ too many: let go

A block on its way counts as if it were there, so nothing is asked for twice. One that stays idle while calls wait is of
no use to them, because it leaves too soon, say, and does not count. But one that came after they had begun to wait does
count: where that is idle, too, a further one would be no better. What is let go: first blocks that only wait in a
queue, then those that have been idle longest; none of which anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Calls that wait for so long beside an idle block will not begin there: those that can do so at once.
OF_NO_USE_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Scaling:
    """Between which limits blocks come and go.

    Args:
        init_blocks: how many are asked for at first, before there is any call.
        min_blocks: no fewer are kept.
        max_blocks: no more are asked for; None for no bound.
        parallelism: slots per open call: 1 for a slot for each, less where calls are short and a queue is no harm.
            One slot is always wanted while there is a call.
        idle_s: a block without calls leaves after so long, if it is not wanted.
        nodes_per_block: how many workers a block has.

    Raises:
        ValueError: a number is out of its range.
    """

    init_blocks: int = 0
    min_blocks: int = 0
    max_blocks: int | None = 1
    parallelism: float = 1.0
    idle_s: float = 120.0
    nodes_per_block: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.parallelism <= 1:
            raise ValueError(f"parallelism is {self.parallelism!r}, expected 0 to 1")
        if self.max_blocks is not None and not 0 <= self.min_blocks <= self.max_blocks:
            raise ValueError(f"min_blocks is {self.min_blocks!r}, expected 0 to max_blocks: {self.max_blocks!r}")
        if self.min_blocks < 0 or self.init_blocks < 0 or self.nodes_per_block < 1:
            raise ValueError("init_blocks and min_blocks must be 0 or more, nodes_per_block 1 or more")
        if self.idle_s < 0:
            raise ValueError(f"idle_s is {self.idle_s!r}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class Demand:
    """What there is to do.

    Args:
        open_calls: calls that wait or run.
        other_slots: calls that run at once elsewhere than in blocks.
        unneeded_s: for how long no call has waited; 0 before the first.
        is_first: nothing was asked for yet.
        is_troubled: the last block failed, so the next ones are tried one by one.
        waited_s: for how long the oldest call has been the oldest that waits for a node alone; 0 without one.
    """

    open_calls: int = 0
    other_slots: int = 0
    unneeded_s: float = 0.0
    is_first: bool = False
    is_troubled: bool = False
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block that has not been told to leave.

    Args:
        name: of the block.
        slots: calls that run in it at once; expected ones for what has not joined.
        is_up: workers of it have joined.
        idle_s: for how long nothing has run there; 0 while something does, and before it is up.
        up_s: for how long it has been up.
    """

    name: str
    slots: int
    is_up: bool
    idle_s: float = 0.0
    up_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Args:
        submit: how many further blocks to ask for.
        cancel: blocks to give up that have not come yet.
        drain: blocks whose workers shall leave.
    """

    submit: int = 0
    cancel: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()


def plan(demand: Demand, blocks: Sequence[BlockView], slots_per_block: int, scaling: Scaling) -> Plan:
    """Say what to do about blocks.

    Args:
        demand: what there is to do.
        blocks: those there are or that are on their way, oldest first.
        slots_per_block: calls that run at once in a further block.
        scaling: the limits.
    """
    wanted = max(math.ceil(demand.open_calls * scaling.parallelism), min(1, demand.open_calls)) - demand.other_slots
    useless = {block.name for block in blocks if _is_of_no_use(block, demand)}
    there = sum(block.slots for block in blocks if block.name not in useless)
    if submit := _lacking(demand, blocks, wanted - there, max(1, slots_per_block), scaling):
        return Plan(submit)
    may_go = len(blocks) - scaling.min_blocks
    surplus = there - max(0, wanted)
    is_quiet = demand.unneeded_s > 0 and demand.unneeded_s >= scaling.idle_s
    pending = [block for block in reversed(blocks) if is_quiet and not block.is_up]
    idle = [block for block in blocks if block.is_up and block.idle_s and block.idle_s >= scaling.idle_s]
    leaving: list[BlockView] = []
    for block in [*pending, *sorted(idle, key=lambda block: -block.idle_s)]:
        slots = 0 if block.name in useless else block.slots
        if len(leaving) < may_go and (not slots or slots <= surplus):
            surplus -= slots
            leaving.append(block)
    return Plan(
        cancel=tuple(block.name for block in leaving if not block.is_up),
        drain=tuple(block.name for block in leaving if block.is_up),
    )


def _is_of_no_use(block: BlockView, demand: Demand) -> bool:
    """Tell whether a block was there before the oldest call was the next, and has taken none since."""
    return block.up_s > demand.waited_s and min(block.idle_s, demand.waited_s) > OF_NO_USE_AFTER_S


def _lacking(
    demand: Demand, blocks: Sequence[BlockView], lacking_slots: int, slots_per_block: int, scaling: Scaling
) -> int:
    """Return how many blocks to ask for."""
    floor = max(scaling.min_blocks, scaling.init_blocks if demand.is_first else 0)
    lacking = max(math.ceil(lacking_slots / slots_per_block), floor - len(blocks))
    if scaling.max_blocks is not None:
        lacking = min(lacking, scaling.max_blocks - len(blocks))
    if demand.is_troubled:
        lacking = min(lacking, 1 if all(block.is_up for block in blocks) else 0)
    return max(0, lacking)
