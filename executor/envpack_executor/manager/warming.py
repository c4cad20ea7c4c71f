"""Context processes that are started before a call needs them: because somebody asked, or because the queue says so.

    prepare(task, n) ──▶ Preparation ──starts, as slots are free──▶ n processes are ready ──▶ PreparationDone
    all slots work, a queued call finds no process of its context ──▶ one is started ahead of it

A process that is started ahead takes no slot before it is given a call: whatever runs first keeps its slot, and no
other process leaves for it. It is started only where all slots have calls (not where others start), and on each node
there is one of these at most that no call has used yet. So those who work share their cores with one set-up more, for
as long as that takes, and it is one that would otherwise hold a slot later. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from envpack_executor.errors import PreparationError, ShutdownError
from envpack_executor.manager import admission, misfits, residence, resources
from envpack_executor.manager.events import Instruction, PreparationDone
from envpack_executor.manager.state import (
    ContextRecord,
    FunctionRecord,
    ManagerState,
    NodeRecord,
    Phase,
    Preparation,
    ProcessRecord,
)

Start = Callable[[ContextRecord, NodeRecord, list[Instruction]], ProcessRecord]
Evict = Callable[[list[ProcessRecord], list[Instruction]], None]


class Warming:
    """Starts processes before they are needed, for one executor.

    Args:
        state: what the manager knows.
        start: starts a process that takes no slot.
        evict: ends idle processes.
    """

    def __init__(self, state: ManagerState, start: Start, evict: Evict) -> None:
        self._state = state
        self._start = start
        self._evict = evict
        self.preparations: list[Preparation] = []

    # --- because the queue says so

    def start_ahead(self, context: ContextRecord, todo: list[Instruction]) -> None:
        """Start a process for the queued calls of a context that has none for them, though all slots work."""
        if any(_can_take_a_call(process) for process in context.processes.values()):
            return
        for node in sorted(self._hosts(context), key=lambda node: node.busy - node.slots):
            if not resources.could_hold(node, context.resources) or self._is_starting_enough(node):
                continue
            if residence.leavers(self._state, node, context) == []:
                self._start(context, node, todo)
                return

    def _hosts(self, context: ContextRecord) -> list[NodeRecord]:
        now_s = self._state.now_s
        nodes = self._state.nodes.values()
        hosts = admission.hosts(nodes, context, now_s)
        if not context.misfits:
            return hosts
        return [node for node in hosts if not misfits.is_avoided(node, context, nodes, now_s)]

    def _is_starting_enough(self, node: NodeRecord) -> bool:
        """Tell whether anything starts on a node, or is ready there for calls that wait, and was not used yet."""
        return any(
            process.phase is Phase.STARTING
            or (process.is_ahead and not process.sent and process.phase is Phase.READY and process.context.queue)
            for process in node.processes.values()
        )

    # --- because somebody asked

    def request(self, preparation: Preparation) -> None:
        """Let processes of a context be ready."""
        self._state.contexts[preparation.context.number] = preparation.context
        self.preparations.append(preparation)

    def function_of(self, context: ContextRecord) -> FunctionRecord | None:
        """Return what is going to be called in the processes of a context that are asked for."""
        return next((each.function for each in self.preparations if each.context is context), None)

    def go_on(self, todo: list[Instruction]) -> None:
        """Start what is asked for and not there, as far as slots are free; tell what is done."""
        if self._state.is_closing:
            self.close(todo)
        for preparation in list(self.preparations):
            error = self._advance(preparation, todo)
            if error is not None or _ready(preparation.context) >= preparation.count:
                self.preparations.remove(preparation)
                todo.append(PreparationDone(preparation, error))

    def fail(self, context: ContextRecord, error: BaseException, todo: list[Instruction]) -> None:
        """A context cannot be had."""
        for preparation in [each for each in self.preparations if each.context is context]:
            self.preparations.remove(preparation)
            todo.append(PreparationDone(preparation, error))

    def close(self, todo: list[Instruction]) -> None:
        """Nobody waits for processes of an executor that closes."""
        error = ShutdownError("the executor was shut down before the processes were ready")
        todo += [PreparationDone(preparation, error) for preparation in self.preparations]
        self.preparations.clear()

    def _advance(self, preparation: Preparation, todo: list[Instruction]) -> BaseException | None:
        context = preparation.context
        if context.environment is None:
            return None
        missing = preparation.count - sum(map(_can_be_counted, context.processes.values()))
        while missing > 0 and self._start_one(context, todo):
            missing -= 1
        if missing <= 0 or not self._state.nodes or self._is_anything_going_on():
            return None
        return PreparationError(context.name, preparation.count, _ready(context))

    def _start_one(self, context: ContextRecord, todo: list[Instruction]) -> bool:
        """Start a process where fewest others must leave; none of its own context does."""
        best: tuple[NodeRecord, list[ProcessRecord]] | None = None
        for node in self._hosts(context):
            starting = sum(each.is_ahead and each.phase is Phase.STARTING for each in node.processes.values())
            if node.busy + starting >= node.slots or not resources.could_hold(node, context.resources):
                continue
            leavers = residence.leavers(self._state, node, context, is_extra=True)
            if leavers is not None and (best is None or len(leavers) < len(best[1])):
                best = node, leavers
        if best is None:
            return False
        self._evict(best[1], todo)
        self._start(context, best[0], todo)
        return True

    def _is_anything_going_on(self) -> bool:
        processes = self._state.processes.values()
        return any(process.phase is not Phase.READY or process.outstanding for process in processes)


def _can_take_a_call(process: ProcessRecord) -> bool:
    """Tell whether a process may take a further call some time."""
    return process.phase is not Phase.STOPPING and not (process.context.is_fresh and process.sent)


def _can_be_counted(process: ProcessRecord) -> bool:
    return process.phase in (Phase.STARTING, Phase.READY) and _can_take_a_call(process)


def _ready(context: ContextRecord) -> int:
    return sum(each.phase is Phase.READY and _can_take_a_call(each) for each in context.processes.values())
