"""The reactors of a manager and of its workers, coupled by messages that take any time; nodes are lost as a whole.

    manager's reactor ──messages, in order, any delay──▶ worker's reactor ──▶ Box: a process, as its host shows it
                      ◀──in order, any delay, some twice──            ◀────┘

Nothing here has a clock, a socket or a process. What must hold: every call ends exactly once, with its own outcome; a
call that a process gave back never began there; when nothing more goes wrong, everything comes to its end and no slot,
process or call is left.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from envpack_executor import messages
from envpack_executor.manager import events as manager
from envpack_executor.manager.state import Call, CallOptions, FunctionRecord
from envpack_executor.messages import FromWorker, NodeId, ProcessId, ToWorker
from envpack_executor.process import frames
from envpack_executor.worker import events as worker
from envpack_executor.worker.reactor import WorkerReactor
from envpack_executor.worker.state import WorkerState
from tests.executor.test_manager_reactor import Manager, make_context
from tests.fuzzing import times

TWICE = (messages.ProcessStarted, messages.ProcessGone, messages.CallEnded)
"""Messages of which a second one right behind the first must change nothing, with the frames `READY` and `RETURNED`."""


THREADS = b"threads"
"""The boot of a context whose calls run side by side."""


@dataclass
class Box:
    """A context process and what its host knows of it."""

    process: ProcessId
    is_threaded: bool = False
    beside: list[tuple[int, int]] = field(default_factory=list)
    unread: deque[tuple[int, list[int]]] = field(default_factory=deque)
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    running: tuple[int, int] | None = None
    outcomes: list[tuple[int, int, Any]] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)
    until: int = 0
    is_stopping: bool = False

    def read(self) -> None:
        """Read a frame of calls; those that were asked back meanwhile are dropped, as the answer has said."""
        first, calls = self.unread.popleft()
        self.waiting += [(number, call) for number, call in enumerate(calls, first) if number >= self.until]

    def give_back(self, until: int) -> int:
        numbers = [number for number, _ in self.waiting]
        numbers += [first + index for first, calls in self.unread for index in range(len(calls))]
        dropped = [number for number in numbers if number < until]
        self.waiting.clear()
        self.until = until
        assert not self.begun & set(dropped), "it gives back what it has begun"
        return min(dropped, default=until)


@dataclass
class Node:
    """A worker's reactor, its processes, and the messages on their way."""

    reactor: WorkerReactor = field(default_factory=lambda: WorkerReactor(WorkerState()))
    down: deque[ToWorker] = field(default_factory=deque)
    up: deque[FromWorker] = field(default_factory=deque)
    launching: list[tuple[ProcessId, bool]] = field(default_factory=list)
    boxes: dict[ProcessId, Box] = field(default_factory=dict)

    def handle(self, event: worker.Event) -> None:
        for instruction in self.reactor.handle(event):
            self.obey(instruction)

    def obey(self, instruction: worker.Instruction) -> None:
        match instruction:
            case worker.Reply():
                self.up.append(instruction.message)
            case worker.CheckEnvironment():
                self.handle(worker.EnvironmentChecked(instruction.process, ()))
            case worker.Launch():
                self.launching.append((instruction.process, instruction.boot == THREADS))
            case worker.Write():
                for _kind, body in frames.FrameBuffer().feed(instruction.frames):
                    self.boxes[instruction.process].unread.append(pickle.loads(body))
            case worker.TakeCallsBack():
                if (box := self.boxes.get(instruction.process)) is not None:
                    self.flush(box)
                    first = box.give_back(instruction.until)
                    self.say(box, frames.RETURNED, first.to_bytes(8, "little"))
            case worker.KillCall():
                box = self.boxes.get(instruction.process)
                if box is not None and box.running is not None and box.running[0] == instruction.number:
                    self.kill(box, instruction.reason)
            case worker.Stop():
                if (box := self.boxes.get(instruction.process)) is not None:
                    if instruction.is_kill:
                        self.end(box, -9)
                    box.is_stopping = True

    def say(self, box: Box, kind: int, body: bytes) -> None:
        self.handle(worker.FrameArrived(box.process, kind, body))

    def launch(self, is_good: bool) -> None:
        process, is_threaded = self.launching.pop(0)
        if not is_good:
            self.handle(worker.LaunchFailed(process, "no room"))
            return
        box = self.boxes[process] = Box(process, is_threaded)
        self.handle(worker.Launched(process, 4711))
        if process in self.boxes:
            self.say(box, frames.READY, b"")

    def step(self, box: Box, failure: Any = None) -> None:
        """Let a process do what it does next."""
        if box.running is not None:
            (number, call), box.running = box.running, None
            box.outcomes.append((number, call, failure))
        elif box.is_threaded and box.waiting:
            box.beside.append(box.waiting.popleft())
        elif box.is_threaded and box.beside and not box.unread:
            box.outcomes.append((*box.beside.pop(len(box.outcomes) % len(box.beside)), failure))
            self.flush(box)
        elif box.waiting:
            box.running = box.waiting.popleft()
            box.begun.add(box.running[0])
        elif box.unread:
            box.read()
        elif box.outcomes:
            self.flush(box)
        elif box.is_stopping:
            self.end(box, 0)

    def flush(self, box: Box) -> None:
        if box.outcomes:
            numbers, calls, failures = zip(*box.outcomes, strict=True)
            irregular = [(index, *failure) for index, failure in enumerate(failures) if failure is not None]
            body = pickle.dumps((list(calls), irregular, numbers if box.is_threaded else ()))
            self.say(box, frames.RESULTS, body)
            box.outcomes = []

    def kill(self, box: Box, reason: str) -> None:
        assert box.running is not None
        self.handle(worker.CallKilled(box.process, box.running[0], reason, 1.5))
        self.end(box, -9)

    def end(self, box: Box, exit_status: int) -> None:
        del self.boxes[box.process]
        self.handle(worker.ProcessEnded(box.process, exit_status, -1 if box.running is None else box.running[0]))


class Coupled:
    """Calls, processes, links and nodes do anything at any time, as chance has it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = Manager(slots=0, max_tries=4)
        self.contexts = [make_context(number, is_fresh=number == 2) for number in range(3)]
        self.contexts.append(make_context(3, is_threaded=True, boot=THREADS))
        self.functions = [
            FunctionRecord(0, b"", "plain", "f"),
            FunctionRecord(1, b"", "eager", "f", options=CallOptions(retries=2, priority=1, timeout_s=1.0)),
        ]
        for context in self.contexts:
            context.has_priorities = True
        self.nodes: dict[NodeId, Node] = {}
        self.lost: list[Node] = []
        self.calls: dict[int, Call] = {}
        self.ends: Counter[int] = Counter()
        self.outcomes: dict[int, int] = {}
        self.names = itertools.count()
        self.finished = 0
        self.met: Counter[str] = Counter()

    # -- the manager's loop

    def tell(self, event: manager.Event) -> None:
        instructions = self.world.handle(event)
        self.met.update(type(each).__name__ for each in instructions)
        self.met.update(each.kind for each in self.world.requeued)
        for instruction in instructions:
            self.obey(instruction)

    def obey(self, instruction: manager.Instruction) -> None:
        match instruction:
            case manager.StartContext():
                start = messages.StartProcess(instruction.process, instruction.environment, instruction.boot)
                self.send(instruction.node, start)
            case manager.SendCalls():
                body = pickle.dumps((instruction.first, [call.number for call in instruction.calls]))
                data = frames.encode(frames.CALLS, body)
                self.send(instruction.node, messages.Deliver(instruction.process, data))
            case manager.EndProcess():
                self.send(instruction.node, messages.StopProcess(instruction.process, instruction.is_kill))
            case manager.AskBack():
                self.send(instruction.node, messages.TakeBack(instruction.process, instruction.until))
            case manager.KillCall():
                number, reason = instruction.number, instruction.reason
                self.send(instruction.node, messages.EndCall(instruction.process, number, reason))
            case manager.CallsDone():
                self.ends.update(call.number for call in instruction.calls)
                self.outcomes |= zip((call.number for call in instruction.calls), instruction.outcomes, strict=True)
            case manager.CallsFailed() | manager.CallsCancelled():
                self.ends.update(call.number for call in instruction.calls)
            case manager.Finish():
                self.finished += 1

    def send(self, node: NodeId, message: ToWorker) -> None:
        if node in self.nodes:
            self.nodes[node].down.append(messages.decode_to_worker(messages.encode(message)))

    def receive(self, message: FromWorker) -> None:
        match messages.decode_from_worker(messages.encode(message)):
            case messages.ProcessFrame(process, frames.RESULTS, body):
                outcomes, irregular, numbers = pickle.loads(body)
                self.tell(manager.ResultsArrived(process, outcomes, [(0, 1e-4), (1, 1e-4)], irregular, numbers))
            case messages.ProcessFrame(process, frames.RETURNED, body):
                self.tell(manager.CallsReturned(process, int.from_bytes(body, "little")))
            case messages.ProcessFrame(process, frames.READY, _):
                self.tell(manager.ProcessReady(process))
            case messages.ProcessStarted() | messages.ProcessGone() | messages.CallEnded() as told:
                self.tell(told)

    # -- what happens

    def act(self) -> None:
        """Let something happen that can."""
        acts = [(weight, act) for weight, act, is_possible in self.possible() if is_possible]
        [act] = self.chance.choices([act for _, act in acts], [weight for weight, _ in acts])
        act()
        self.check()

    def possible(self) -> list[tuple[float, Callable[[], None], bool]]:
        nodes, anywhere = list(self.nodes.values()), [*self.nodes.values(), *self.lost]
        has_boxes = any(node.boxes for node in anywhere)
        return [
            (0.5, self.node_joins, len(nodes) < 3),
            (0.15, self.node_is_lost, bool(nodes)),
            (2, self.calls_are_queued, not self.world.state.is_closing),
            (1, self.call_is_cancelled, bool(self.calls)),
            (3, self.time_passes, True),
            (0.05, self.executor_closes, len(self.calls) > 100),
            (12, self.node_hears, any(node.down for node in nodes)),
            (12, self.manager_hears, any(node.up for node in nodes)),
            (1, self.manager_hears_of_a_lost_node, any(node.up for node in self.lost)),
            (6, self.process_is_launched, any(node.launching for node in nodes)),
            (20, self.process_goes_on, has_boxes),
            (0.3, self.process_ends, has_boxes),
            (0.5, self.call_exceeds_its_time, has_boxes),
        ]

    def node_joins(self) -> None:
        name, slots = NodeId(f"n{next(self.names)}"), self.chance.randint(1, 3)
        self.nodes[name] = Node()
        self.tell(manager.NodeJoined(name, str(name), slots, slots + 2))

    def node_is_lost(self) -> None:
        name = self.chance.choice(list(self.nodes))
        self.lost.append(self.nodes.pop(name))
        self.tell(manager.NodeLost(name, "silent"))

    def calls_are_queued(self) -> None:
        context, function = self.chance.choice(self.contexts), self.chance.choice(self.functions)
        calls = self.world.calls(context, self.chance.choice([1, 3, 30]), function)
        self.calls.update((call.number, call) for call in calls)
        self.tell(manager.CallsQueued(calls))

    def call_is_cancelled(self) -> None:
        outstanding = [call for process in self.world.state.processes.values() for call in process.outstanding]
        calls = outstanding if outstanding and self.chance.random() < 0.7 else list(self.calls.values())
        self.tell(manager.CancelRequested(self.chance.choice(calls)))

    def time_passes(self) -> None:
        self.world.state.now_s += self.chance.choice([0.005, 0.01, 1.0])
        self.tell(manager.TimePassed())

    def executor_closes(self) -> None:
        self.tell(manager.CloseRequested(self.chance.random() < 0.5))

    def node_hears(self) -> None:
        node = self.chance.choice([node for node in self.nodes.values() if node.down])
        for _ in range(self.chance.randint(1, len(node.down))):
            node.handle(node.down.popleft())

    def manager_hears(self) -> None:
        node = self.chance.choice([node for node in self.nodes.values() if node.up])
        for _ in range(self.chance.randint(1, len(node.up))):
            message = node.up.popleft()
            self.receive(message)
            if isinstance(message, TWICE) or _is_frame(message, frames.READY, frames.RETURNED):
                self.receive(message)

    def manager_hears_of_a_lost_node(self) -> None:
        node = next(node for node in self.lost if node.up)
        before = self.ends.copy()
        self.receive(node.up.popleft())
        assert self.ends == before

    def process_is_launched(self) -> None:
        node = self.chance.choice([node for node in self.nodes.values() if node.launching])
        node.launch(self.chance.random() < 0.9)

    def process_goes_on(self) -> None:
        node, box = self.any_box()
        failure = ("raised", "E: e") if self.chance.random() < 0.1 else None
        for _ in range(self.chance.choice([1, 2, 40])):
            if box.process in node.boxes:
                node.step(box, failure)

    def process_ends(self) -> None:
        node, box = self.any_box()
        node.end(box, self.chance.choice([-9, -11, 3]))

    def call_exceeds_its_time(self) -> None:
        node, box = self.any_box()
        if box.running is not None:
            node.kill(box, "timeout")

    def any_box(self) -> tuple[Node, Box]:
        nodes = [*self.nodes.values(), *self.lost]
        return self.chance.choice([(node, box) for node in nodes for box in node.boxes.values()])

    # -- what must hold

    def check(self) -> None:
        """Every end is the only one of its call, and its own."""
        assert all(count <= 1 for count in self.ends.values())
        assert all(number == outcome for number, outcome in self.outcomes.items())
        assert self.finished <= 1

    def finish(self) -> None:
        """When nothing more goes wrong, every call gets its end and the executor finishes, once."""
        if not self.nodes and not self.finished:
            self.node_joins()
        self.tell(manager.CloseRequested(False))
        for _ in range(60 * len(self.calls) + 100):
            if not self.go_on():
                break
        assert self.finished == 1
        assert not self.world.state.processes
        assert all(node.busy == 0 for node in self.world.state.nodes.values())
        assert not any(node.boxes or node.reactor.state.processes for node in self.nodes.values())
        assert self.ends == dict.fromkeys(self.calls, 1)

    def go_on(self) -> bool:
        """Let everybody do what there is to do; return whether there was anything."""
        has_done = False
        for node in list(self.nodes.values()):
            while node.down or node.up or node.launching:
                has_done = True
                if node.down:
                    node.handle(node.down.popleft())
                elif node.up:
                    self.receive(node.up.popleft())
                else:
                    node.launch(True)
            for box in list(node.boxes.values()):
                has_more = bool(box.running or box.beside or box.waiting or box.unread or box.outcomes)
                has_done |= has_more or box.is_stopping
                node.step(box)
        return has_done


def _is_frame(message: FromWorker, *kinds: int) -> bool:
    return isinstance(message, messages.ProcessFrame) and message.kind in kinds


@pytest.mark.parametrize("seed", range(times(30)))
def test_whatever_happens_every_call_ends_once_and_nothing_is_left(seed: int) -> None:
    world = Coupled(seed)
    for _ in range(400):
        world.act()
    world.finish()


def test_what_is_rare_happens_here() -> None:
    """Without this the other test could come to prove nothing: all that it is about must occur in a few runs."""
    met: Counter[str] = Counter()
    for seed in range(8):
        world = Coupled(seed)
        for _ in range(400):
            world.act()
        met += world.met
    for what in ("AskBack", "KillCall", "returned", "retried", "lost", "CallsFailed", "EndProcess"):
        assert met[what] > 2, what
