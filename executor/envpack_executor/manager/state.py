"""What the manager knows: nodes, contexts, context processes, calls. Data and a table of transitions, no behaviour.

    Call:     queued in its context ──sent──▶ outstanding at a process ──result──▶ done
                    ▲──process or node lost, taken back, tried again─┘
    Process:  STARTING ──ready──▶ READY ──asked to end──▶ STOPPING ──gone──▶ forgotten

A process holds one of its node's slots while it starts and while it has outstanding calls. A ready process without
calls holds none: it is kept, warm, for the next call of its context. Nor does one that is started before a call needs
it, see `warming`.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from envpack_executor.messages import Environment, NodeId, ProcessId
from envpack_monitor.allocation import Allocation

if TYPE_CHECKING:
    from envpack_executor.manager.queues import CallQueue, PriorityQueue


Imports = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of modules, and for each what is taken `from` it: that may be modules as well."""


class Phase(enum.Enum):
    """Where a context process is in its life, seen from the manager."""

    STARTING = enum.auto()
    READY = enum.auto()
    STOPPING = enum.auto()


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.READY, Phase.STOPPING}),
    Phase.READY: frozenset({Phase.STOPPING}),
    Phase.STOPPING: frozenset(),
}


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What is the same for all calls of a function, as `@task` was told.

    Args:
        mode: `direct`, `fork`, `thread` or `fresh`.
        timeout_s: a call that runs longer is ended; 0 for no bound.
        retries: how often a call that raises is run again.
        priority: calls with a larger one go first.
        resources: what a call needs of its node at least; None for one slot.
        least_s: a call is not begun on a node that leaves within this time, unless it has just come and no other stays
            longer; 0 to judge by earlier calls alone.
        is_measured_alone: what a call uses is told of each, however short it is; otherwise the sum of several.
    """

    mode: str = "direct"
    timeout_s: float = 0.0
    retries: int = 0
    priority: float = 0
    resources: Allocation | None = None
    least_s: float = 0.0
    is_measured_alone: bool = False


@dataclass(slots=True, eq=False)
class FunctionRecord:
    """A function as it is sent to context processes, once to each, and what is the same for all its calls.

    Args:
        number: how calls name it.
        payload: its pickle.
        name: for messages to people.
        category: under which its usage is remembered.
        limits: what a call may use, as `@monitor` was told; the reactor never looks into it.
        estimate_s: recent wall time of a call in seconds; None before the first result.
        options: as `@task` was told.
        look_s: after so long its node must look whether a call takes too much; 0 where it need not.
        has_bytecode: its pickle holds code for one minor version of Python.
        imports: what its calls import before anything else, see `hoisting`.
    """

    number: int
    payload: bytes
    name: str
    category: str
    limits: Any = None
    estimate_s: float | None = None
    options: CallOptions = CallOptions()
    look_s: float = 0.0
    has_bytecode: bool = False
    imports: Imports = ()

    @property
    def is_plain(self) -> bool:
        """Whether its calls need no more than a warm process."""
        options = self.options
        return options.mode == "direct" and not self.look_s and options.resources is None


@dataclass(slots=True, eq=False)
class ContextRecord:
    """A context: environment, set-up, the calls that wait for it and the processes that hold it.

    Args:
        number: its id in this manager.
        key: the key of its `Context`.
        name: for messages to people.
        environment: None while it is being discovered and packed.
        boot: the first frame of each of its processes.
        queue: calls that are not at a process.
        processes: its processes in any phase.
        failed_starts: where and how processes were lost before they were ready, since the last there that became ready.
        misfits: nodes where none could be started, and until when none is tried there as long as others are left.
        stage: what its processes do before they are ready: nothing, run the executor's initializer, or set up.
        setup_timeout_s: how long that may take; 0 for as long as the executor allows.
        is_fresh: each process serves one call alone.
        is_threaded: its calls run side by side in one process of each node, a slot for each.
        set_ups: processes that became ready, ever.
        set_up_s: how long that took altogether.
        kept_bytes: what a process of it keeps in memory, as far as is known; 0 before.
        past_calls: calls that were sent to processes which are gone.
        evictions: processes that left because others needed their memory.
        resources: what each of its processes takes of its node while it works; None for a slot.
        has_priorities: some of its functions have a priority, so its queue must not be a plain one.
        loans: its idle processes that whoever submits may send a call to, see `loans`.
        has_bytecode: its initializer or set-up function holds code for one minor version of Python.
    """

    number: int
    key: str
    name: str
    environment: Environment | None = None
    boot: bytes = b""
    queue: deque[Call] | CallQueue | PriorityQueue = field(default_factory=deque)
    processes: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    failed_starts: tuple[tuple[NodeId, str], ...] = ()
    misfits: dict[NodeId, float] = field(default_factory=dict)
    stage: Literal["", "initializer", "set-up"] = ""
    setup_timeout_s: float = 0.0
    is_fresh: bool = False
    is_threaded: bool = False
    set_ups: int = 0
    set_up_s: float = 0.0
    kept_bytes: int = 0
    past_calls: int = 0
    evictions: int = 0
    resources: Allocation | None = None
    has_priorities: bool = False
    loans: deque[Any] = field(default_factory=deque)
    has_bytecode: bool = False


@dataclass(slots=True)
class Troubles:
    """What happened to a call that few calls meet.

    Args:
        failures: how earlier tries failed by themselves, in words, oldest first.
        is_unwanted: it shall end, wherever it is.
        killed_for: why its node has killed it; empty if it has not.
        ran_s: for how long it had run then.
        last_words: the end of what the process that it lost last had written to stderr.
        memory_bytes: what its process had in memory, where that is the reason.
    """

    failures: tuple[str, ...] = ()
    is_unwanted: bool = False
    killed_for: str = ""
    ran_s: float = 0.0
    memory_bytes: int = 0
    last_words: str = ""


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """One call, until it has an end. What its caller waits for is a `CallFuture`, which is a call itself.

    Args:
        number: in the order of submission.
        function: what is called.
        context: where it must run.
        payload: pickled arguments.
        losses: how earlier tries ended.
        is_claimed: it was sent once, and cannot be cancelled since.
        features: numbers known before the call that may explain what it uses; None where nobody asks.
        needs: what it must be given at least, because it has used up less; None for most.
        exhaustions: how often it was ended because it had used up its memory.
        troubles: None for most.
        lent: the process that it was sent to by whoever submitted it; None for most.
    """

    number: int
    function: FunctionRecord
    context: ContextRecord
    payload: bytes
    losses: tuple[str, ...] = ()
    is_claimed: bool = False
    features: Mapping[str, float] | None = None
    needs: Allocation | None = None
    exhaustions: int = 0
    troubles: Troubles | None = None
    lent: ProcessRecord | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether it shall end, wherever it is."""
        return self.troubles is not None and self.troubles.is_unwanted

    def met(self) -> Troubles:
        """Return its troubles, to be changed."""
        if self.troubles is None:
            self.troubles = Troubles()
        return self.troubles


@dataclass(slots=True, eq=False)
class NodeRecord:
    """A machine that hosts context processes.

    Args:
        node: its id.
        name: for messages to people.
        slots: how many of its processes may work at once.
        resident: how many may be there at once, warm ones included: each costs a few descriptors.
        busy: how many work or start.
        cores: what calls may be promised of its cores, all together; 0 where nobody counts.
        memory_bytes: likewise of its memory; None where nobody counts.
        context_bytes: what its processes may keep in memory between calls, all together; None for no bound.
        is_short: a process was wanted for which it has too little of something, as long as others work.
        leaves_at_s: from then on it takes no calls, on the clock of the events; None where it stays.
        is_back: it was there before, so that it has stayed for longer than since `joined_at_s`.
        is_foreign: its Python is of another minor version than the client's.
        draining: why it will leave as soon as it can; empty while it stays.
        disk_bytes: what calls may write there, all together; None where nobody counts.
        gpus: how many GPUs calls may use.
        loads: which share of each GPU is taken by those that work.
        taken_bytes: memory of those that work and asked for it.
        taken_disk_bytes: likewise.
        host: the name that it gives itself.
        pid: of its worker; 0 for the client's own machine.
        block: which block of workers it belongs to; empty without one.
        python: version of its interpreter.
        joined_at_s: when it came, on the clock of the events.
        quiet_since_s: when it came, or when the last of its processes that are gone had ended its work.
    """

    node: NodeId
    name: str
    slots: int
    resident: int
    busy: int = 0
    processes: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    cores: float = 0.0
    memory_bytes: int | None = None
    context_bytes: int | None = None
    is_short: bool = False
    disk_bytes: int | None = None
    gpus: int = 0
    loads: list[float] = field(default_factory=list)
    taken_bytes: int = 0
    taken_disk_bytes: int = 0
    leaves_at_s: float | None = None
    is_back: bool = False
    is_foreign: bool = False
    draining: str = ""
    host: str = ""
    pid: int = 0
    block: str = ""
    python: str = ""
    joined_at_s: float = 0.0
    quiet_since_s: float = 0.0

    @property
    def is_draining(self) -> bool:
        """Whether it will leave as soon as it can."""
        return bool(self.draining)

    @property
    def is_choosy(self) -> bool:
        """Whether it does not take every call, see `admission`."""
        return self.is_draining or self.is_foreign or self.leaves_at_s is not None


@dataclass(slots=True, eq=False)
class ProcessRecord:
    """A context process.

    Args:
        process: its id.
        node: where it is.
        context: what it holds.
        outstanding: calls sent and not answered, in the order in which it runs them.
        numbers: theirs, where they are answered in any order.
        extra_slots: how many slots of its node it takes beyond one.
        sent: how many calls were sent to it, ever: the number of the next one.
        known: numbers of the functions that it has.
        pid: on its node; 0 before it runs.
        last_used: a counter that grows with each use.
        seen_bytes: its memory as far as is known; 0 before, and where nobody looks.
        rest_bytes: its memory when it was last seen without a call.
        kept_bytes: its proportional set size when it was last measured between calls; 0 before.
        begun_s: when its start was asked for.
        frequency: calls that it was given, older ones counting less, as of `counted_s`.
        counted: calls that are in `frequency`.
        counted_s: when `frequency` was brought up to date.
        since_s: when the oldest outstanding call began, as far as is known.
        is_asked: calls were asked back, and it has not answered yet.
        taken: how many it has given back since it last was without calls.
        is_recalled: it is sent nothing before it is without calls and has answered.
        is_doomed: its node has killed it for one of its calls.
        is_lent: whoever submits next may send it a call, or has done so and its result has not come.
        is_ahead: it was started before a call needs it, and takes no slot while it starts.
        idle_since_s: when it had answered all its calls.
        devices: indices of its GPUs.
    """

    process: ProcessId
    node: NodeRecord
    context: ContextRecord
    phase: Phase = Phase.STARTING
    outstanding: deque[Call] = field(default_factory=deque)
    numbers: deque[int] = field(default_factory=deque)
    extra_slots: int = 0
    sent: int = 0
    known: set[int] = field(default_factory=set)
    pid: int = 0
    last_used: int = 0
    seen_bytes: int = 0
    rest_bytes: int = 0
    kept_bytes: int = 0
    begun_s: float = 0.0
    frequency: float = 0.0
    counted: int = 0
    counted_s: float = 0.0
    since_s: float = 0.0
    is_asked: bool = False
    taken: int = 0
    is_recalled: bool = False
    is_doomed: bool = False
    is_lent: bool = False
    is_ahead: bool = False
    idle_since_s: float = 0.0
    devices: tuple[int, ...] = ()

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`.

        Raises:
            ValueError: the table knows no such transition.
        """
        if phase not in NEXT[self.phase]:
            raise ValueError(f"process {self.process}: no transition from {self.phase.name} to {phase.name}")
        self.phase = phase

    @property
    def holds_slot(self) -> bool:
        """Whether it takes one of its node's slots."""
        return bool(self.outstanding) or (self.phase is Phase.STARTING and not self.is_ahead)

    @property
    def is_idle(self) -> bool:
        """Whether it is ready for calls and has nothing to do."""
        return self.phase is Phase.READY and not (self.outstanding or self.is_recalled or self.is_lent)

    @property
    def first(self) -> int:
        """The number of the oldest outstanding call."""
        return self.sent - self.taken - len(self.outstanding)


@dataclass(slots=True, eq=False)
class Preparation:
    """A wish that processes of a context are ready.

    Args:
        context: which.
        count: how many.
        function: what will be called; None for no matter.
        ticket: how whoever asked is told; nothing here looks into it.
    """

    context: ContextRecord
    count: int
    function: FunctionRecord | None = None
    ticket: Any = None


@dataclass(slots=True)
class ManagerState:
    """Everything that the manager's reactor decides by.

    Args:
        max_tries: a call that loses its process so often is given back.
        setup_timeout_s: how long a process may take to become ready, where its context does not say so.
        idle_timeout_s: a process that has had nothing to do for so long leaves; None for never.
        can_join: whether further nodes may come.
        waiting: contexts with queued calls, by number.
        open_calls: calls that have no end yet.
        set_ups: processes that became ready, ever.
        now_s: when the event came that is handled, on a clock that never goes back.
    """

    max_tries: int = 3
    setup_timeout_s: float = 900.0
    idle_timeout_s: float | None = None
    can_join: bool = True
    nodes: dict[NodeId, NodeRecord] = field(default_factory=dict)
    contexts: dict[int, ContextRecord] = field(default_factory=dict)
    processes: dict[ProcessId, ProcessRecord] = field(default_factory=dict)
    waiting: dict[int, ContextRecord] = field(default_factory=dict)
    open_calls: int = 0
    set_ups: int = 0
    now_s: float = 0.0
    is_closing: bool = False
    is_closed: bool = False
