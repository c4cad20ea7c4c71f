"""What the manager tells about its nodes: a picture of each at one moment. Pure: reads, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from envpack_executor.manager.state import ManagerState, NodeRecord, Phase
from envpack_executor.messages import NodeId


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A machine that hosts context processes, as it stands now.

    Args:
        node: its id, as `ContextExecutor.drain` takes it; `"local"` for the client's own machine.
        name: for messages to people.
        host: the name that it gives itself.
        pid: of its worker; 0 for the client's own machine.
        block: which block it belongs to, as `envpack worker --block` says it; empty without one.
        python: version of its interpreter.
        cores: how many calls may run there at once.
        memory_bytes: what they may have together; None where nobody counts.
        gpus: how many GPUs they may use.
        running: calls that were sent there and have no end yet.
        idle_s: for how long nothing has run or started there, in seconds; 0.0 while something does.
        is_draining: it takes no more calls and leaves as soon as it can.
        joined_s: since when it has been there, in seconds.
    """

    node: str
    name: str
    host: str
    pid: int
    block: str
    python: str
    cores: int
    memory_bytes: int | None
    gpus: int
    running: int
    idle_s: float
    is_draining: bool
    joined_s: float


def node_statuses(state: ManagerState, now_s: float) -> tuple[NodeStatus, ...]:
    """Return how each node stands.

    Args:
        state: what the manager knows.
        now_s: on the clock of the events.
    """
    return tuple(node_status(node, now_s) for node in state.nodes.values())


def waiting_calls(state: ManagerState) -> int:
    """Return how many calls have not been sent to any process."""
    return state.open_calls - sum(len(process.outstanding) for process in list(state.processes.values()))


def may_drain(state: ManagerState, node: NodeId) -> bool:
    """Tell whether a node is there that can be told to leave: the client's own machine cannot."""
    return node in state.nodes and state.nodes[node].pid != 0


def node_status(node: NodeRecord, now_s: float) -> NodeStatus:
    """Return how one node stands."""
    running = sum(len(process.outstanding) for process in node.processes.values())
    is_busy = running or any(process.phase is Phase.STARTING for process in node.processes.values())
    quiet_since_s = max([node.quiet_since_s, *(process.idle_since_s for process in node.processes.values())])
    return NodeStatus(
        node=node.node,
        name=node.name,
        host=node.host,
        pid=node.pid,
        block=node.block,
        python=node.python,
        cores=node.slots,
        memory_bytes=node.memory_bytes,
        gpus=node.gpus,
        running=running,
        idle_s=0.0 if is_busy else max(0.0, now_s - quiet_since_s),
        is_draining=node.is_draining,
        joined_s=max(0.0, now_s - node.joined_at_s),
    )
