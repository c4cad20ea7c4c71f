"""What a worker knows: its context processes and the layers under way. Data and a table of transitions, no behaviour.

CHECKING ──layers missing──▶ FETCHING ──all stored──▶ LAUNCHING ──started──▶ RUNNING
    └────────none missing────────────────────────────────▲                      │
any phase ──failed, ended, stopped──▶ forgotten ◀───────────────────────────────┘
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from envpack_executor.messages import Environment, ProcessId


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
        boot: its first frame.
        phase: where it is in its life.
        missing: digests of layers that have not arrived yet.
        held: frames that came before it was running, each with when to look.
        is_stopping: stop was asked before it was running.
    """

    process: ProcessId
    environment: Environment
    boot: bytes
    phase: Phase = Phase.CHECKING
    missing: set[str] = field(default_factory=set)
    held: list[tuple[bytes, float]] = field(default_factory=list)
    is_stopping: bool = False

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
    """

    heartbeat_s: float = 0.0
    silence_s: float = 0.0
    last_heard_s: float = 0.0
    last_beat_s: float = 0.0
    processes: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    fetching: dict[str, int] = field(default_factory=dict)  # digest -> bytes that have arrived
    is_leaving: bool = False
