"""What a worker knows: its context processes and the layers under way. Data and a table of transitions, no behaviour.

CHECKING ──layers missing──▶ FETCHING ──all stored──▶ LAUNCHING ──started──▶ RUNNING
    └────────none missing────────────────────────────────▲                      │
any phase ──failed, ended, stopped──▶ forgotten ◀───────────────────────────────┘
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from envpack_executor.messages import Deliver, Environment, FromWorker, ProcessId


class Phase(enum.Enum):
    """Where a context process is in its life, seen from its node."""

    CHECKING = enum.auto()
    FETCHING = enum.auto()
    LAUNCHING = enum.auto()
    RUNNING = enum.auto()


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.CHECKING: frozenset({Phase.FETCHING, Phase.LAUNCHING}),
    Phase.FETCHING: frozenset({Phase.LAUNCHING}),
    Phase.LAUNCHING: frozenset({Phase.RUNNING}),
    Phase.RUNNING: frozenset(),
}


@dataclass(slots=True)
class ProcessRecord:
    """A context process that the manager asked for.

    Args:
        process: its id, given by the manager.
        environment: where its interpreter is.
        boot: its first frame; empty when that is held because it needs blobs.
        devices: indices of its GPUs; None for no say.
        phase: where it is in its life.
        missing: digests of layers that have not arrived yet.
        held: frames that came before it was running, or before a blob that they need; in their order.
        is_stopping: stop was asked before it was running; `wants_end`: it must end when nothing is held any more.
        told: names of the blobs whose place it knows.
        problems: why blobs that held frames need cannot be had, by name.
        is_streamed: what it prints is told to the manager.
    """

    process: ProcessId
    environment: Environment
    boot: bytes
    devices: tuple[int, ...] | None = None
    phase: Phase = Phase.CHECKING
    missing: set[str] = field(default_factory=set)
    held: deque[Deliver] = field(default_factory=deque)
    is_stopping: bool = False
    wants_end: bool = False
    told: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    is_streamed: bool = False

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`.

        Raises:
            ValueError: the table knows no such transition.
        """
        if phase not in NEXT[self.phase]:
            raise ValueError(f"process {self.process}: no transition from {self.phase.name} to {phase.name}")
        self.phase = phase


@dataclass(slots=True)
class WorkerState:
    """Everything that a worker's reactor decides by.

    Args:
        heartbeat_s: time between two signs of life, both ways; 0 for the client's own node, which needs none.
        silence_s: the manager is given up after so long without a word.
        last_heard_s: when the manager was last heard, on the clock of the events.
        last_beat_s: when we last sent a sign of life.
        draining: why it leaves as soon as it can; empty while it does not.
        drained_by_s: when it leaves whatever runs.
    """

    heartbeat_s: float = 0.0
    silence_s: float = 0.0
    last_heard_s: float = 0.0
    last_beat_s: float = 0.0
    processes: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    fetching: dict[str, int] = field(default_factory=dict)  # digest -> bytes that have arrived
    blobs: set[str] = field(default_factory=set)  # names of those that are here
    blobs_wanted: set[str] = field(default_factory=set)  # names of those under way
    # What processes say must wait for their large results: names of those under way, and what came after them.
    sending: dict[ProcessId, set[str]] = field(default_factory=dict)
    unsaid: dict[ProcessId, list[FromWorker]] = field(default_factory=dict)
    is_leaving: bool = False
    draining: str = ""
    drained_by_s: float = 0.0
