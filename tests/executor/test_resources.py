"""Calls that ask for cores, memory, disk and GPUs: packed by it, alone on their devices, refused if they never fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, settings, task
from envpack_executor.errors import ResourcesError, TaskError
from envpack_executor.manager import resources
from envpack_executor.manager.events import CallsFailed, NodeJoined, ProcessReady, SendCalls, StartContext
from envpack_executor.manager.state import ContextRecord
from envpack_executor.messages import ProcessId
from envpack_monitor import Allocation
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.executor.test_manager_reactor import HERE, Manager, kinds, make_context

GPU = Allocation(gpus=1)
HALF = Allocation(gpus=0.5)


def node(slots: int = 4, **offer: Any) -> Manager:
    world = Manager(slots=0)
    world.handle(NodeJoined(HERE, "here", slots, 100, **offer))
    return world


def devices(instructions: list[Any]) -> list[tuple[int, ...] | None]:
    return [each.devices for each in instructions if isinstance(each, StartContext)]


def begin(world: Manager, context: ContextRecord, count: int = 1) -> list[ProcessId]:
    """Let processes of a context start, be ready and work."""
    starts = [each for each in world.queue(context, count)[1] if isinstance(each, StartContext)]
    for start in starts:
        world.handle(ProcessReady(start.process))
    return [start.process for start in starts]


# --- cores, memory, disk


@pytest.mark.parametrize(
    ("asked", "at_once"),
    [
        (Allocation(cores=2), 2),
        (Allocation(cores=3), 1),
        (Allocation(cores=0.5), 4),
        (Allocation(memory_bytes=4), 2),
        (Allocation(disk_bytes=30), 3),
        (GPU, 2),
        (Allocation(gpus=2), 1),
        (HALF, 4),
        (Allocation(gpus=0.3), 4),
        (Allocation(cores=2, memory_bytes=8), 1),
    ],
)
def test_as_many_calls_run_at_once_as_their_node_has_room_for(asked: Allocation, at_once: int) -> None:
    world = node(memory_bytes=10, disk_bytes=100, gpus=2)
    assert len(begin(world, make_context(resources=asked), 20)) == at_once


def test_calls_that_ask_and_calls_that_do_not_share_the_slots() -> None:
    world = node()
    begin(world, make_context(1, resources=Allocation(cores=3)))
    assert kinds(world.queue(make_context(2), 5)[1]) == ["StartContext"]


def test_what_was_taken_is_given_back() -> None:
    world, context = (
        node(memory_bytes=10, disk_bytes=10, gpus=1),
        make_context(resources=Allocation(cores=4, memory_bytes=10, disk_bytes=10, gpus=1)),
    )
    [process] = begin(world, context)
    here = world.state.nodes[HERE]
    assert (here.busy, here.taken_bytes, here.taken_disk_bytes, here.loads) == (4, 10, 10, [1.0])
    world.results(process, 1)
    assert (here.busy, here.taken_bytes, here.taken_disk_bytes, here.loads) == (0, 0, 0, [0.0])


def test_a_large_call_is_not_starved_by_small_ones_that_go_on_and_on() -> None:
    world, small = node(slots=2), make_context(1)
    processes = begin(world, small, 2)
    large = make_context(2, resources=Allocation(cores=2))
    [start] = world.queue(large)[1]
    world.queue(small, 10)
    assert kinds(world.results(processes[0], 1)) == ["CallsDone", "SendCalls"], "it is being set up"
    world.handle(ProcessReady(start.process))
    assert kinds(world.results(processes[0], 1)) == ["CallsDone"], "the slot stays free for the large one"
    [_, sent] = world.results(processes[1], 1)
    assert isinstance(sent, SendCalls)
    assert sent.process == start.process


# --- GPUs


def test_a_whole_device_is_not_shared_and_shares_go_together() -> None:
    world = node(slots=8, gpus=2)
    assert devices(world.queue(make_context(1, resources=HALF))[1]) == [(0,)]
    assert devices(world.queue(make_context(2, resources=GPU))[1]) == [(1,)]
    assert devices(world.queue(make_context(3, resources=HALF))[1]) == [(0,)]
    assert devices(world.queue(make_context(4, resources=HALF))[1]) == []


def test_calls_that_ask_for_no_device_see_none_where_there_are_any() -> None:
    assert devices(node(gpus=1).queue(make_context())[1]) == [()]
    assert devices(node().queue(make_context())[1]) == [None], "whoever offers none has no say"


def test_idle_processes_may_have_the_same_device_and_only_one_works_there() -> None:
    world, first, second = node(gpus=1), make_context(1, resources=GPU), make_context(2, resources=GPU)
    [one] = begin(world, first)
    world.results(one, 1)
    [two] = begin(world, second)
    assert [each.devices for each in world.state.processes.values()] == [(0,), (0,)]
    assert kinds(world.queue(first)[1]) == [], "its device is taken"
    _, sent = world.results(two, 1)
    assert isinstance(sent, SendCalls)
    assert sent.process == one
    assert world.state.set_ups == 2, "both stay set up"


# --- never


def test_a_call_that_no_node_can_hold_fails_at_once_where_none_can_join() -> None:
    world = node(gpus=1, memory_bytes=10)
    world.state.can_join = False
    context = make_context(resources=Allocation(gpus=2))
    calls, [failed] = world.queue(context)
    assert isinstance(failed, CallsFailed)
    assert failed.calls == calls
    assert str(failed.error).startswith(
        "no node can ever run calls of 'context-1': too few GPUs: 2 wanted, 1 there on here"
    )


def test_a_call_that_no_node_can_hold_waits_for_one_that_may_join_and_it_is_said_why() -> None:
    world, context = node(memory_bytes=2_000_000), make_context(resources=Allocation(memory_bytes=5_000_000))
    assert world.queue(context)[1] == []
    here = list(world.state.nodes.values())
    assert resources.reason(context, here) == ("no node has so much: too little memory: 5 MB wanted, 2 MB free on here")
    assert kinds(world.handle(NodeJoined(HERE, "large", 1, 100, memory_bytes=5_000_000))) == ["StartContext"]


def test_it_is_said_what_is_free_now() -> None:
    world, context = node(memory_bytes=9_000_000), make_context(resources=Allocation(memory_bytes=5_000_000))
    begin(world, context)
    here = list(world.state.nodes.values())
    assert resources.reason(context, here) == "too little memory: 5 MB wanted, 4 MB free on here"
    assert resources.reason(make_context(2), here) == ""


# --- declared


def test_a_task_may_ask_for_resources() -> None:
    asked = task(resources={"cores": 2, "memory": "4GB", "disk": "10GB", "gpus": 1})(functions.double)
    assert asked.options.resources == Allocation(cores=2, memory_bytes=4_000_000_000, disk_bytes=10_000_000_000, gpus=1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpu": 1}, "expected a mapping of cores, memory, disk, gpus"),
        (4, "expected a mapping"),
        ({"cores": 0}, "cores is 0, expected more than 0"),
        ({"memory": "much"}, "memory: .*much"),
        ({"memory": -1}, "memory is -1, expected more than 0"),
        ({"gpus": 1.5}, r"gpus is 1\.5, expected a whole number or a share of one"),
    ],
)
def test_resources_that_cannot_be_are_refused_where_they_are_declared(asked: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task(resources=asked)


@pytest.mark.parametrize("offer", [{"gpus": -1}, {"disk": 0}, {"memory": "-1GB"}, {"cores": 0}])
def test_an_offer_that_cannot_be_is_refused(offer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|-1GB"):
        ContextExecutor(max_workers=1, **offer)


def test_devices_are_those_that_the_node_was_given() -> None:
    assert settings.child_environ({"CUDA_VISIBLE_DEVICES": "4,GPU-7"}, 1, (1,))["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert settings.child_environ({}, 1, (0, 2))["HIP_VISIBLE_DEVICES"] == "0,2"
    assert settings.child_environ({"CUDA_VISIBLE_DEVICES": "4"}, 1, ())["CUDA_VISIBLE_DEVICES"] == ""
    assert settings.child_environ({"CUDA_VISIBLE_DEVICES": "4"}, 1)["CUDA_VISIBLE_DEVICES"] == "4"


def test_the_error_keeps_its_fields_when_it_is_pickled() -> None:
    error = pickle.loads(pickle.dumps(ResourcesError("work", "no GPU")))
    assert (error.name, error.reason) == ("work", "no GPU")


# --- real processes


@pytest.mark.parametrize("allocations", [None, "auto"])
def test_each_call_with_a_gpu_sees_one_that_no_other_has(allocations: Any, tmp_path: Path) -> None:
    one = task(resources={"gpus": 1})(functions.tell_device_and_wait)
    with ContextExecutor(max_workers=4, gpus=2, memory="2GB", allocations=allocations) as executor:
        go = tmp_path / "go"
        futures = [executor.submit(one, str(tmp_path), number, str(go)) for number in range(4)]
        wait_until(lambda: len(list(tmp_path.glob("device-*"))) == 2, "two calls run")
        assert allocations or "no GPU free on this machine" in executor.why(futures[3])
        seen = {path.read_text() for path in tmp_path.glob("device-*")}
        go.touch()
        assert seen == {"0", "1"}
        assert {future.result(GENEROUS_S) for future in futures} == {"0", "1"}
        assert executor.submit(functions.visible_devices).result(GENEROUS_S) == ""


@pytest.mark.parametrize("allocations", [None, "auto"])
def test_an_executor_without_gpus_refuses_calls_that_ask_for_some(allocations: Any) -> None:
    one = task(resources={"gpus": 1})(functions.double)
    with ContextExecutor(max_workers=1, allocations=allocations) as executor:
        with pytest.raises(ResourcesError, match="too few GPUs: 1 wanted, 0 there on this machine"):
            executor.submit(one, 1).result(GENEROUS_S)
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2


def test_more_memory_than_there_is_is_refused_without_being_told_how_much_there_is() -> None:
    large = task(resources={"memory": "10000GB"})(functions.double)
    with ContextExecutor(max_workers=1) as executor, pytest.raises(ResourcesError, match="too little memory"):
        executor.submit(large, 1).result(GENEROUS_S)
