"""What may begin on which node, decided by pure code: nodes that leave, and nodes of another Python."""

from __future__ import annotations

import itertools
from typing import Any

import cloudpickle
import pytest

from envpack_executor.manager import admission, events
from envpack_executor.manager.reactor import ManagerReactor
from envpack_executor.manager.reasons import reason
from envpack_executor.manager.state import Call, CallOptions, ContextRecord, FunctionRecord, ManagerState, NodeRecord
from envpack_executor.messages import Environment, NodeId, ProcessGone

INHERIT = Environment("inherit")
PREFIX = Environment("prefix", python="/usr/bin/python3")

RELEASED = events.ReleaseNode(NodeId("n"), "nothing is left to do")


def node(**fields: Any) -> NodeRecord:
    return NodeRecord(NodeId("n"), "n", slots=1, resident=8, **fields)


def function(
    estimate_s: float | None = None, timeout_s: float = 0.0, has_bytecode: bool = False, least_s: float = 0.0
) -> FunctionRecord:
    options = CallOptions(timeout_s=timeout_s, least_s=least_s)
    return FunctionRecord(1, b"", "f", "f", None, estimate_s, options, has_bytecode=has_bytecode)


def context(environment: Environment = INHERIT, has_bytecode: bool = False) -> ContextRecord:
    return ContextRecord(1, "key", "c", environment, has_bytecode=has_bytecode)


def make_call(
    context: ContextRecord, number: int = 0, what: FunctionRecord | None = None, payload: bytes = b""
) -> Call:
    return Call(number, what or function(), context, payload)


@pytest.mark.parametrize(
    ("function_", "is_taken"),
    [
        (function(), True),
        (function(estimate_s=1.0), True),
        (function(estimate_s=9.0), False),
        (function(timeout_s=5.0), True),
        (function(timeout_s=50.0), False),
        (function(estimate_s=9.0, timeout_s=5.0), True),
        (function(estimate_s=1.0, timeout_s=50.0), True),
        (function(least_s=5.0), True),
        (function(estimate_s=1.0, least_s=50.0), False),
    ],
)
def test_nothing_is_begun_that_is_likely_to_outlast_its_node(function_: FunctionRecord, is_taken: bool) -> None:
    call = make_call(context(), what=function_)
    assert admission.may_begin(node(leaves_at_s=110.0), call, now_s=100.0) is is_taken
    assert admission.may_begin(node(), call, now_s=100.0)
    assert not admission.may_begin(node(leaves_at_s=99.0), call, now_s=100.0)


@pytest.mark.parametrize("environment", [INHERIT, PREFIX])
@pytest.mark.parametrize("carrier", ["function", "context", "argument", ""])
def test_bytecode_begins_on_a_node_of_another_python_only_with_an_interpreter_of_its_own(
    environment: Environment, carrier: str
) -> None:
    kind = context(environment, has_bytecode=carrier == "context")
    payload = cloudpickle.dumps(lambda: 1) if carrier == "argument" else b"plain"
    call = make_call(kind, what=function(has_bytecode=carrier == "function"), payload=payload)
    assert admission.may_begin(node(is_foreign=True), call, 0.0) is (environment is PREFIX or not carrier)
    assert admission.may_begin(node(), call, 0.0)


# --- the reactor


@pytest.fixture
def reactor() -> ManagerReactor:
    return ManagerReactor(ManagerState(), lambda call: True, lambda call: False)


def started(todo: list[Any]) -> list[events.StartContext]:
    return [step for step in todo if isinstance(step, events.StartContext)]


def sent(todo: list[Any]) -> list[Call]:
    return [call for step in todo if isinstance(step, events.SendCalls) for call in step.calls]


def test_a_node_that_drains_ends_what_is_idle_and_is_let_go_with_its_last_process(reactor: ManagerReactor) -> None:
    reactor.handle(events.NodeJoined(NodeId("n"), "n", 2, 8))
    kind = context()
    calls = [make_call(kind, number) for number in range(3)]
    busy, idle = started(reactor.handle(events.CallsQueued(calls[:2])))
    reactor.handle(events.ProcessReady(busy.process))
    reactor.handle(events.ProcessReady(idle.process))
    reactor.handle(events.ResultsArrived(idle.process, [b"1"], []))
    todo = reactor.handle(events.NodeDraining(NodeId("n")))
    assert [step.process for step in todo if isinstance(step, events.EndProcess)] == [idle.process]
    assert reactor.handle(events.NodeDraining(NodeId("n"))) == []
    assert not started(reactor.handle(events.CallsQueued(calls[2:])))
    assert not reactor.handle(ProcessGone(idle.process, 0, -1))
    todo = reactor.handle(events.ResultsArrived(busy.process, [b"2"], []))
    assert [step.process for step in todo if isinstance(step, events.EndProcess)] == [busy.process]
    assert reactor.handle(ProcessGone(busy.process, 0, -1)) == [RELEASED]
    assert started(reactor.handle(events.NodeJoined(NodeId("m"), "m", 1, 8)))
    assert not reactor.state.nodes[NodeId("n")].busy


def test_a_node_that_drains_while_its_process_starts_gives_the_call_to_another(reactor: ManagerReactor) -> None:
    reactor.handle(events.NodeJoined(NodeId("n"), "n", 1, 8))
    (first,) = started(reactor.handle(events.CallsQueued([make_call(context(), 0)])))
    todo = reactor.handle(events.NodeDraining(NodeId("n")))
    assert events.EndProcess(NodeId("n"), first.process, True) in todo
    assert reactor.handle(ProcessGone(first.process, -9, -1)) == [RELEASED]
    (second,) = started(reactor.handle(events.NodeJoined(NodeId("m"), "m", 1, 8)))
    assert second.node == NodeId("m")


def test_a_call_that_would_outlast_one_node_begins_on_the_other(reactor: ManagerReactor) -> None:
    reactor.state.now_s = 100.0
    reactor.handle(events.NodeJoined(NodeId("brief"), "brief", 4, 8, leaves_at_s=105.0))
    reactor.state.now_s = 103.0
    long = make_call(context(), 0)
    long.function.estimate_s = 60.0
    assert not started(reactor.handle(events.CallsQueued([long])))
    (start,) = started(reactor.handle(events.NodeJoined(NodeId("long"), "long", 1, 8, leaves_at_s=1000.0)))
    assert start.node == NodeId("long")


@pytest.mark.parametrize(
    "what", [function(estimate_s=9.0), function(timeout_s=50.0), function(least_s=50.0), function(timeout_s=10.0)]
)
def test_what_fits_on_no_node_begins_on_one_that_has_just_come_and_is_tried_so_often(
    reactor: ManagerReactor, what: FunctionRecord
) -> None:
    call = make_call(context(), 0, what)
    reactor.handle(events.CallsQueued([call]))
    for number in range(reactor.state.max_tries):
        reactor.state.now_s += 100.0
        name, now_s = NodeId(f"n{number}"), reactor.state.now_s
        (start,) = started(reactor.handle(events.NodeJoined(name, name, 1, 8, leaves_at_s=now_s + 10.0)))
        reactor.state.now_s += 0.5
        assert sent(reactor.handle(events.ProcessReady(start.process))) == [call]
        todo = reactor.handle(events.NodeLost(name, "its wall time is over"))
    assert [step.calls for step in todo if isinstance(step, events.CallsFailed)] == [[call]]


def test_what_fits_on_no_node_waits_for_the_next_one_where_time_has_passed_already(reactor: ManagerReactor) -> None:
    reactor.state.now_s = 100.0
    reactor.handle(events.NodeJoined(NodeId("old"), "old", 1, 8, leaves_at_s=110.0))
    reactor.handle(events.NodeJoined(NodeId("back"), "back", 1, 8, leaves_at_s=105.0, is_back=True))
    reactor.state.now_s = 102.5
    assert not started(reactor.handle(events.CallsQueued([make_call(context(), 0, function(estimate_s=7.0))])))
    (start,) = started(reactor.handle(events.NodeJoined(NodeId("new"), "new", 1, 8, leaves_at_s=112.5)))
    assert start.node == NodeId("new")


@pytest.mark.parametrize(
    ("stay_s", "fields", "is_waited_for"),
    [
        (None, {}, True),
        (60.0, {}, True),
        (25.0, {}, False),
        (None, {"is_foreign": True}, False),
        (None, {"draining": "it is idle"}, False),
        (None, {"slots": 0}, False),
    ],
)
def test_a_node_that_stays_long_enough_is_waited_for_if_it_may_ever_take_the_call(
    stay_s: float | None, fields: dict[str, Any], is_waited_for: bool
) -> None:
    call = make_call(context(has_bytecode=True), what=function(estimate_s=20.0))
    brief = node(joined_at_s=100.0, leaves_at_s=110.0)
    other = node(joined_at_s=50.0, leaves_at_s=None if stay_s is None else 50.0 + stay_s)
    for name, value in fields.items():
        setattr(other, name, value)
    nodes = [brief, other]
    assert admission.may_begin(brief, call, 101.0, nodes) is not is_waited_for
    assert (brief in admission.takers(nodes, call, 101.0)) is not is_waited_for
    assert admission.takers(nodes, call, 101.0) == [each for each in (other, brief) if may(each, call, nodes)]


def may(node: NodeRecord, call: Call, nodes: list[NodeRecord]) -> bool:
    return admission.may_begin(node, call, 101.0, nodes)


def test_the_time_that_a_set_up_takes_does_not_make_a_node_old(reactor: ManagerReactor) -> None:
    reactor.state.now_s = 100.0
    reactor.handle(events.NodeJoined(NodeId("n"), "n", 1, 8, leaves_at_s=110.0))
    calls = [make_call(context(), number, function(estimate_s=4.5)) for number in range(2)]
    calls[1].context, calls[1].function = calls[0].context, calls[0].function
    (start,) = started(reactor.handle(events.CallsQueued(calls)))
    reactor.state.now_s = 104.0
    assert sent(reactor.handle(events.ProcessReady(start.process))) == [calls[0]]
    reactor.state.now_s = 108.5
    assert not sent(reactor.handle(events.ResultsArrived(start.process, [b"1"], [])))


def test_of_a_mixed_queue_a_choosy_node_is_sent_only_what_comes_first_and_may_begin() -> None:
    foreign, kind = node(is_foreign=True), context()
    calls = [make_call(kind, number) for number in range(3)]
    calls[2].function = function(has_bytecode=True)
    assert admission.leading(foreign, iter(calls), 0.0) == 2
    assert admission.leading(foreign, itertools.islice(calls, 1), 0.0) == 1


def test_a_node_that_is_lost_without_blame_lets_its_calls_be_tried_as_often_as_it_takes(
    reactor: ManagerReactor,
) -> None:
    call = make_call(context(), 0)
    reactor.handle(events.CallsQueued([call]))
    for number in range(10):
        name = NodeId(f"n{number}")
        (start,) = started(reactor.handle(events.NodeJoined(name, name, 1, 8)))
        reactor.handle(events.ProcessReady(start.process))
        reactor.handle(events.NodeLost(name, "the client was suspended", is_blameless=True))
    assert call.losses == ()
    assert reactor.state.open_calls == 1


def test_a_call_that_no_node_may_begin_says_why_of_each(reactor: ManagerReactor) -> None:
    reactor.state.now_s = 100.0
    reactor.handle(events.NodeJoined(NodeId("brief"), "brief", 1, 8, leaves_at_s=105.0))
    reactor.handle(events.NodeJoined(NodeId("other"), "other", 1, 8, is_foreign=True))
    reactor.handle(events.NodeJoined(NodeId("gone"), "gone", 1, 8))
    reactor.handle(events.NodeDraining(NodeId("gone")))
    call = make_call(context(has_bytecode=True))
    call.function.estimate_s = 20.0
    reactor.state.now_s = 102.0
    reactor.handle(events.CallsQueued([call]))
    assert reason(reactor.state, call) == (
        "brief leaves in 3 s, and it may take 30 s; other runs another minor version of Python, and functions travel "
        "by value; gone is about to leave"
    )
