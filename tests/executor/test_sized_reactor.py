"""The decisions of the manager where calls are promised memory, without any process: tables, and random orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from envpack_executor.manager import events as manager
from envpack_executor.manager.events import (
    CallsDone,
    CallsFailed,
    CallsQueued,
    EndProcess,
    NodeJoined,
    ProcessReady,
    ResultsArrived,
    SendCalls,
    StartContext,
)
from envpack_executor.manager.queues import CallQueue
from envpack_executor.manager.sized import LANE_S, SizedReactor
from envpack_executor.manager.sizing import MOST_PENDING, Sizer
from envpack_executor.manager.state import Call, ContextRecord, FunctionRecord
from envpack_executor.messages import MemorySeen, NodeId, ProcessGone, ProcessId
from envpack_monitor import Allocation, LimitExceeded, Usage
from envpack_monitor.predict import Explanation
from tests.executor.test_manager_reactor import (
    HERE,
    INHERIT,
    AnyOrder,
    Ghost,
    Manager,
    check_places,
    kinds,
    make_context,
)
from tests.fuzzing import times


class BySize:
    """A predictor that takes the feature `size` for the memory of a call, or what it knows of the category."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.asked: list[str] = []
        self.observed: list[Usage] = []

    def predict(self, category: str, features: Mapping[str, float]) -> Allocation:
        self.asked.append(category)
        return Allocation(memory_bytes=int(features.get("size", self.sizes.get(category, 3))), cores=0.1)

    def observe(self, category: str, features: Mapping[str, float], usage: Usage) -> None:
        self.observed.append(usage)

    def retry(self, category: str, features: Mapping[str, float], failed: Allocation) -> Allocation:
        return replace(failed, memory_bytes=2 * (failed.memory_bytes or 0))

    def explain(self, category: str, features: Mapping[str, float]) -> Explanation:
        return Explanation(rule="size", calls=0, allocation=Allocation())


class SizedManager(Manager):
    """A `Manager` of the other reactor, on a node with ten bytes of memory."""

    def __init__(self, slots: int = 4, size: int = 10, cores: float = 4.0, **sizes: int) -> None:
        super().__init__(slots=0)
        self.predictor = BySize(sizes)
        self.reactor = self.sized = SizedReactor(
            self.state, self._claim, lambda call: call.number in self.cancelled, Sizer(self.predictor)
        )
        if slots:
            self.handle(NodeJoined(HERE, "here", slots, 2 * slots, cores, size))

    def check(self) -> None:
        check_places(self.state, lambda node, asked: 1)
        sized = self.sized
        for node in self.state.nodes.values():
            lanes = [lane for lane in sized.lanes.values() if lane.process.node is node]
            rooms = [each.room for each in sized.placement.nodes if each.name == node.node]
            assert bool(rooms) is not node.is_draining
            if not rooms:
                continue
            [room] = rooms
            assert len(lanes) == node.busy <= node.slots, "a process works without a promise"
            if node.memory_bytes is not None:
                promised = sum(lane.allocation.memory_bytes or 0 for lane in lanes)
                assert promised + (room.memory_bytes or 0) == node.memory_bytes
                assert promised <= node.memory_bytes, "more was promised than there is"
        queued = {call for context in self.state.contexts.values() for call in context.queue if context.environment}
        bound = {lane.leader for lane in sized.lanes.values() if lane.is_bound}
        assert sized._put == queued - bound, "a call is forgotten"
        assert len(sized.placement) == len(sized._put)

    def one(self, category: str, context: ContextRecord, **features: float) -> Call:
        call = self.calls(context, 1, FunctionRecord(hash(category) % 1000, b"", category, category))[0]
        call.features = features
        return call

    def start(self, category: str, context: ContextRecord, **features: float) -> tuple[Call, ProcessId]:
        """Let a call begin in a process of its own, and return both."""
        call = self.one(category, context, **features)
        [start] = self.handle(CallsQueued([call]))
        assert isinstance(start, StartContext)
        [sent] = self.handle(ProcessReady(start.process))
        assert isinstance(sent, SendCalls)
        return call, start.process

    def see(self, *seen: tuple[ProcessId, int, int]) -> list[manager.Instruction]:
        return self.handle(MemorySeen(list(seen)))

    def promised(self, process: ProcessId) -> int:
        return self.sized.lanes[process].allocation.memory_bytes or 0


def test_only_as_many_start_as_the_node_has_memory_for() -> None:
    world, context = SizedManager(work=4), make_context()
    _, starts = world.queue(context, 5, FunctionRecord(1, b"", "work", "work"))
    assert kinds(starts) == ["StartContext", "StartContext"]
    [wait] = world.sized.waits()
    assert (wait.category, wait.calls, wait.reason) == ("work", 3, "no room: 4e-06 MB wanted, 2e-06 MB free on here")


def test_workers_bound_the_processes_when_the_cores_would_allow_more() -> None:
    world, context = SizedManager(slots=3, cores=2.0, size=1000, work=4), make_context()
    _, starts = world.queue(context, 9, FunctionRecord(1, b"", "work", "work"))
    assert kinds(starts) == ["StartContext"] * 3


def test_short_calls_of_a_category_share_one_promise() -> None:
    world, context = SizedManager(work=6), make_context()
    function = FunctionRecord(1, b"", "work", "work", estimate_s=1e-4)
    calls, [start, *_] = world.queue(context, 12, function)
    [sent] = world.handle(ProcessReady(start.process))
    assert sent.calls == calls[:3], "a share of the node's slots"
    assert world.promised(start.process) == 6


def test_short_call_is_not_worth_another_process() -> None:
    world, context = SizedManager(work=3), make_context()
    function = FunctionRecord(1, b"", "work", "work", estimate_s=1e-4)
    [first], [start] = world.queue(context, 1, function)
    world.handle(ProcessReady(start.process))
    [second], [sent] = world.queue(context, 1, function)
    assert (sent.process, sent.calls) == (start.process, [second])
    assert world.handle(ResultsArrived(start.process, [0, 0], [])) == [CallsDone([first, second], [0, 0])]
    assert not world.sized.lanes


def test_short_call_with_larger_features_gets_a_promise_of_its_own() -> None:
    world, context = SizedManager(), make_context()
    function = FunctionRecord(1, b"", "work", "work", estimate_s=1e-4)
    calls = world.calls(context, 3, function)
    for call, size in zip(calls, (4, 3, 9), strict=True):
        call.features = {"size": size}
    [start, *_] = world.handle(CallsQueued(calls))
    [sent] = [each for each in world.handle(ProcessReady(start.process)) if isinstance(each, SendCalls)]
    assert calls[2] not in sent.calls


def test_lane_ends_when_another_category_waits() -> None:
    world, context = SizedManager(slots=1, cores=1.0, short=5, other=5), make_context()
    function = FunctionRecord(1, b"", "short", "short", estimate_s=1e-3)
    _, [start] = world.queue(context, 500, function)
    world.handle(CallsQueued([world.one("other", context)]))
    instructions = world.handle(ProcessReady(start.process))
    served = 0
    while isinstance(instructions[-1], SendCalls) and instructions[-1].calls[0].function is function:
        count = len(world.state.processes[start.process].outstanding)
        served += count
        instructions = world.handle(ResultsArrived(start.process, [0] * count, [(1, 1e-3)]))
    assert served <= LANE_S / 1e-3 + 10


def test_promise_grows_only_after_more_was_seen_and_only_into_what_is_free() -> None:
    world = SizedManager(first=3, second=3)
    _, first = world.start("first", make_context(1))
    _, second = world.start("second", make_context(2))
    assert world.see((first, 3, 0), (second, 2, 0)) == []
    assert world.promised(first) == 3
    assert world.see((first, 4, 0)) == []
    assert (world.promised(first), world.promised(second)) == (7, 3)


def test_nobody_is_ended_for_memory_that_is_not_used() -> None:
    world = SizedManager(first=3, second=7)
    _, first = world.start("first", make_context(1))
    _, second = world.start("second", make_context(2))
    assert world.see((first, 6, 0), (second, 4, 0)) == []
    assert world.promised(first) == 3, "nothing is left to be promised"
    assert world.see((second, 5, 0)) == [EndProcess(HERE, first, True)]
    assert world.see((first, 7, 0), (second, 6, 0)) == [], "one is enough"


def test_ended_call_alone_waits_again_with_more_and_is_not_blamed() -> None:
    world = SizedManager(short=3, second=7)
    _, second = world.start("second", make_context(2))
    function = FunctionRecord(1, b"", "short", "short", estimate_s=1e-3)
    calls, [start] = world.queue(make_context(1), 12, function)
    world.handle(ProcessReady(start.process))
    outstanding = list(world.state.processes[start.process].outstanding)
    assert len(outstanding) > 1
    assert world.see((start.process, 6, 0), (second, 5, 0)) == [EndProcess(HERE, start.process, True)]
    world.handle(ProcessGone(start.process, -9, 0))
    assert (outstanding[0].needs, outstanding[0].exhaustions) == (Allocation(memory_bytes=10, cores=1.0), 1)
    assert [call.needs for call in outstanding[1:]] == [None] * (len(outstanding) - 1)
    assert not any(call.losses for call in calls)


def test_call_that_needs_more_than_the_largest_node_ends_with_the_figures() -> None:
    world = SizedManager(work=3)
    call, process = world.start("work", make_context())
    world.state.processes[process].pid = 4711
    assert world.see((process, 8, 0)) == []
    assert world.see((process, 12, 0)) == [EndProcess(HERE, process, True)]
    [failed] = world.handle(ProcessGone(process, -9, 0))
    assert isinstance(failed, CallsFailed)
    assert isinstance(failed.error, LimitExceeded)
    assert (failed.error.resource, failed.error.allowed, failed.error.measured) == ("memory", 10, 12)
    assert (failed.error.category, failed.error.pid, failed.calls) == ("work", 4711, [call])


def test_result_that_came_before_the_end_counts() -> None:
    world = SizedManager(first=3, second=7)
    call, first = world.start("first", make_context(1))
    _, second = world.start("second", make_context(2))
    world.see((first, 6, 0), (second, 5, 0))
    assert world.handle(ResultsArrived(first, [0], [])) == [CallsDone([call], [0])]
    again = world.one("first", call.context)
    [start] = world.handle(CallsQueued([again]))
    assert isinstance(start, StartContext), "the process that is dying takes no further call"
    assert world.handle(ProcessGone(first, -9, -1)) == []


def test_figures_of_a_call_that_has_ended_do_not_count_for_the_next() -> None:
    world, context = SizedManager(work=3), make_context()
    _, process = world.start("work", context)
    world.handle(ResultsArrived(process, [0], []))
    [sent] = world.handle(CallsQueued([world.one("work", context)]))
    assert (sent.process, sent.first) == (process, 1)
    world.see((process, 9, 0))
    assert world.promised(process) == 3


def test_warm_process_that_keeps_too_much_is_ended_for_room() -> None:
    world = SizedManager(first=3, second=8)
    _, process = world.start("first", make_context(1))
    world.handle(ResultsArrived(process, [0], []))
    world.see((process, 3, -1))
    instructions = world.handle(CallsQueued([world.one("second", make_context(2))]))
    assert kinds(instructions) == ["StartContext", "EndProcess"]
    assert instructions[1] == EndProcess(HERE, process, False)


def test_call_is_promised_what_its_warm_process_keeps_if_that_is_free() -> None:
    world, context = SizedManager(small=2, other=5), make_context(1)
    _, process = world.start("small", context)
    world.handle(ResultsArrived(process, [0], []))
    world.see((process, 4, -1))
    [sent] = world.handle(CallsQueued([world.one("small", context)]))
    assert (sent.process, world.promised(process)) == (process, 4)
    assert world.handle(ResultsArrived(process, [0], [])) == [CallsDone([sent.calls[0]], [0])]
    world.start("other", make_context(2))
    assert world.see((process, 8, -1)) == [EndProcess(HERE, process, False)], "not beside the five of the other"


def test_sizer_learns_before_it_answers_and_keeps_the_largest() -> None:
    predictor = BySize({})
    sizer = Sizer(predictor)
    for peak in range(MOST_PENDING + 10):
        sizer.note("work", {"n": peak}, 1, {"wall_s": 1.0, "peak_memory_bytes": 1 + peak}, 0)
    sizer.note("other", None, 4, {"wall_s": 8.0, "peak_memory_bytes": 5, "cpu_user_s": 4.0}, 0)
    sizer.note("work", None, 1, {"wall_s": 1.0, "peak_memory_bytes": 5, "exception": "ValueError"}, 0)
    assert not predictor.observed
    sizer.retry("work", None, Allocation(memory_bytes=1))
    assert [usage.peak_memory_bytes for usage in predictor.observed] == list(range(11, MOST_PENDING + 11))
    sizer.ask("never met", None)
    last = predictor.observed[-1]
    assert (last.category, last.wall_s, last.cpu_user_s, last.peak_memory_bytes) == ("other", 2.0, 1.0, 5)


def test_queue_gives_calls_from_its_middle() -> None:
    calls: list[Any] = [object() for _ in range(5)]
    queue = CallQueue(calls[1:4])
    queue.extendleft([calls[0]])
    queue.append(calls[4])
    assert list(queue) == calls
    queue.remove(calls[2])
    assert (queue[0], len(queue), calls[2] in queue, calls[3] in queue) == (calls[0], 4, False, True)
    assert queue.popleft() is calls[0]


class AnyOrderSized(AnyOrder):
    """Everything may happen at any time, and processes have any memory."""

    def __init__(self) -> None:
        super().__init__()
        self.world = SizedManager(slots=0, size=0)
        for number, function in enumerate(self.functions):
            function.category = f"f{number}"
        self.killed: set[ProcessId] = set()
        self.contexts[0].environment = self.contexts[2].environment = INHERIT
        self.tell(NodeJoined(NodeId("first"), "first", 2, 4, memory_bytes=12))

    def check_end(self, ghost: Ghost, instruction: EndProcess) -> None:
        if instruction.is_kill:
            self.killed.add(ghost.process)
        else:
            super().check_end(ghost, instruction)

    @precondition(lambda self: self.living)
    @rule(data=st.data(), size=st.integers(1, 25))
    def memory_is_seen(self, data: st.DataObject, size: int) -> None:
        self.see({self.pick(data, self.living): size})

    @precondition(lambda self: sum(bool(ghost.unanswered) for ghost in self.living.values()) > 1)
    @rule(sizes=st.lists(st.integers(2, 15), min_size=8, max_size=8), is_late=st.booleans())
    def node_becomes_short(self, sizes: list[int], is_late: bool) -> None:
        self.see(dict(zip(list(self.living), sizes, strict=False)))
        for process in [] if is_late else sorted(self.killed & self.living.keys()):
            self.bury(process)

    def see(self, sizes: dict[ProcessId, int]) -> None:
        self.tell(MemorySeen([(process, size, self.running(self.living[process])) for process, size in sizes.items()]))

    def running(self, ghost: Ghost) -> int:
        return ghost.numbers[0] if ghost.numbers else -1

    @precondition(lambda self: self.killed & self.living.keys())
    @rule(data=st.data())
    def killed_process_is_gone(self, data: st.DataObject) -> None:
        self.bury(self.pick(data, self.killed & self.living.keys()))

    def bury(self, process: ProcessId) -> None:
        ghost = self.living.pop(process)
        self.forgotten[process] = ghost
        self.tell(ProcessGone(process, -9, self.running(ghost)))

    def teardown(self) -> None:
        for process in list(self.killed & self.living.keys()):
            self.bury(process)
        super().teardown()


TestAnyOrderSized = AnyOrderSized.TestCase
TestAnyOrderSized.settings = settings(max_examples=times(120), stateful_step_count=40, deadline=None)
