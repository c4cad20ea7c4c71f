"""What calls that ask for resources take of their node, and on which GPUs they run. Pure.

| asked | counted as |
|---|---|
| cores | slots of the node, its cores shared out among them; rounded up |
| memory, disk | bytes, among the calls that ask for them |
| gpus | devices by index, or a share of one |

A process takes them while it holds a slot: a warm one without calls takes none. Its devices are chosen before it
starts and stay its own; others that are idle may have the same, but only as many calls work on a device at a time as
it has shares for.
"""

from __future__ import annotations

import math

from envpack_executor.manager.state import ContextRecord, NodeRecord, Phase, ProcessRecord
from envpack_monitor.allocation import Allocation
from envpack_monitor.units import format_figure

# Thirds must add up to a whole again.
_ROUNDING = 1e-6


def slots_for(node: NodeRecord, asked: Allocation | None) -> int:
    """Return how many slots of a node a process takes while it works."""
    if asked is None:
        return 1
    return max(1, math.ceil(asked.cores * node.slots / (node.cores or node.slots) - _ROUNDING))


def could_hold(node: NodeRecord, asked: Allocation | None) -> bool:
    """Tell whether a node has so much when nothing works there."""
    return not _lacks(node, asked, is_empty=True)


def has_room(node: NodeRecord, asked: Allocation | None) -> bool:
    """Tell whether a node has so much free now, with GPUs that it is free on."""
    if asked is None:
        return node.busy < node.slots
    return not _lacks(node, asked) and choose_devices(node, asked) is not None


def can_work(process: ProcessRecord) -> bool:
    """Tell whether an idle process may be given calls now, as far as its node goes."""
    node, asked = process.node, process.context.resources
    if asked is None:
        return node.busy < node.slots
    return not _lacks(node, asked, process.devices)


def has_devices(process: ProcessRecord) -> bool:
    """Tell whether the GPUs of an idle process are free."""
    asked = process.context.resources
    return asked is None or not _are_taken(process.node, asked, process.devices)


def choose_devices(node: NodeRecord, asked: Allocation, is_ahead: bool = False) -> tuple[int, ...] | None:
    """Return the devices for a process that is about to start; None where they are not free.

    A share goes to the fullest device that has room for it, so that whole ones stay free; otherwise the device with
    the fewest processes is taken.

    Args:
        node: where.
        asked: what it asks for.
        is_ahead: it will not work at once, so that its devices need not be free.
    """
    count, share = _devices_of(asked)
    bound = [0] * node.gpus
    for process in node.processes.values():
        for device in process.devices if process.phase is not Phase.STOPPING else ():
            bound[device] += 1
    fitting = [device for device in range(node.gpus) if is_ahead or node.loads[device] + share <= 1 + _ROUNDING]
    fitting.sort(key=lambda device: (-node.loads[device] if share < 1 else node.loads[device], bound[device], device))
    return tuple(sorted(fitting[:count])) if len(fitting) >= count else None


def take(process: ProcessRecord) -> int:
    """Let a process have what it asks for; return how many slots that is."""
    return _change(process, 1)


def give(process: ProcessRecord) -> int:
    """Take back what a process had; return how many slots that was."""
    return _change(process, -1)


def no_node_for(context: ContextRecord, nodes: list[NodeRecord]) -> str:
    """Say why no node can ever hold what the calls of a context ask for; an empty text if one can."""
    if context.resources is None or any(could_hold(node, context.resources) for node in nodes):
        return ""
    lacks = (f"{_lacks(node, context.resources, is_empty=True)} on {node.name}" for node in nodes)
    return "; ".join(lacks) or "there is no node"


def reason(context: ContextRecord, nodes: list[NodeRecord]) -> str:
    """Say what the calls of a context wait for; an empty text if some node has room for them."""
    if never := no_node_for(context, nodes):
        return f"no node has so much: {never}"
    if any(has_room(node, context.resources) for node in nodes):
        return ""
    return "; ".join(f"{_lacks(node, context.resources) or 'no GPU free'} on {node.name}" for node in nodes)


def _lacks(node: NodeRecord, asked: Allocation | None, devices: tuple[int, ...] = (), is_empty: bool = False) -> str:
    """Say what a node has too little of, first of all; an empty text if of nothing."""
    slots = slots_for(node, asked)
    if node.slots - (0 if is_empty else node.busy) < slots:
        return f"too few cores: {1.0 if asked is None else asked.cores:g} wanted" if slots > 1 else "no slot free"
    if asked is None:
        return ""
    taken_bytes, taken_disk_bytes = (0, 0) if is_empty else (node.taken_bytes, node.taken_disk_bytes)
    for name, wanted, has, taken in (
        ("memory", asked.memory_bytes, node.memory_bytes, taken_bytes),
        ("disk", asked.disk_bytes, node.disk_bytes, taken_disk_bytes),
    ):
        if wanted and has is not None and wanted + taken > has:
            free = format_figure("memory", max(0, has - taken))
            return f"too little {name}: {format_figure('memory', wanted)} wanted, {free} free"
    count, _ = _devices_of(asked)
    if count > node.gpus:
        return f"too few GPUs: {asked.gpus:g} wanted, {node.gpus} there"
    return "no GPU free" if _are_taken(node, asked, devices) else ""


def _are_taken(node: NodeRecord, asked: Allocation, devices: tuple[int, ...]) -> bool:
    _, share = _devices_of(asked)
    return any(node.loads[device] + share > 1 + _ROUNDING for device in devices)


def _devices_of(asked: Allocation) -> tuple[int, float]:
    """Return how many devices are asked for, and which share of each."""
    gpus = asked.gpus or 0.0
    return math.ceil(gpus), min(gpus, 1.0)


def _change(process: ProcessRecord, sign: int) -> int:
    node, asked = process.node, process.context.resources
    if asked is None:
        return 1
    node.taken_bytes += sign * (asked.memory_bytes or 0)
    node.taken_disk_bytes += sign * (asked.disk_bytes or 0)
    _, share = _devices_of(asked)
    for device in process.devices:
        node.loads[device] = round(node.loads[device] + sign * share, 6)
    return slots_for(node, asked)
