"""Parsl's apps in our executor, through Parsl's own data-flow kernel."""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import parsl
import pytest
from parsl import bash_app, python_app
from parsl.config import Config
from parsl.executors.errors import BadStateException, InvalidResourceSpecification
from parsl.jobs.states import JobState, JobStatus
from parsl.monitoring.message_type import MessageType
from parsl.monitoring.remote import monitor_wrapper
from parsl.providers import LocalProvider, SlurmProvider
from parsl.serialize import facade
from parsl.serialize.concretes import DillSerializer

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import ExecutorError, ProcessExitedError, ShutdownError, TaskError
from envpack_executor.parsl import ContextReuseExecutor
from envpack_executor.parsl.apps import Apps, unwrapped
from envpack_executor.parsl.registry import Registry
from envpack_executor.parsl.serializing import packed
from envpack_monitor.allocation import Allocation
from tests.executor.helpers import GENEROUS_S, are_gone, wait_until
from tests.plugs.parsl_functions import Backwards, load

Start = Callable[..., ContextReuseExecutor]


class QuickProvider(LocalProvider):  # type: ignore[misc]
    """Blocks on this machine, whose jobs are looked at five times a second."""

    @property
    def status_polling_interval(self) -> float:
        return 0.2


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Load a configuration of Parsl with our executor alone, whose strategy looks ten times a second."""
    with contextlib.ExitStack() as stack:

        def start(
            provider: LocalProvider | None = None, strategy: str = "simple", **options: Any
        ) -> ContextReuseExecutor:
            provider = provider or QuickProvider(init_blocks=1, min_blocks=1, max_blocks=1)
            executor = ContextReuseExecutor(label="ours", provider=provider, max_workers_per_node=1, **options)
            config = Config(
                executors=[executor],
                run_dir=str(tmp_path / "runs"),
                strategy=strategy,
                strategy_period=0.1,
                max_idletime=0.2,
                initialize_logging=False,
            )
            stack.enter_context(parsl.load(config))
            return executor

        yield start


def test_apps_run_and_raise_as_in_other_executors_of_parsl(start: Start, tmp_path: Path) -> None:
    start()

    @python_app
    def add(one: int, other: int) -> int:
        return one + other

    @python_app
    def fail() -> None:
        raise LookupError("nothing there")

    @bash_app
    def say(word: str, stdout: str = "") -> str:
        return f"echo {word} $PARSL_WORKER_BLOCK_ID"

    chained = add(add(1, 2), 3)
    said = say("block", stdout=str(tmp_path / "said"))
    assert chained.result(GENEROUS_S) == 6
    assert said.result(GENEROUS_S) == 0
    assert (tmp_path / "said").read_text() == "block 0\n"
    with pytest.raises(LookupError, match="nothing there"):
        fail().result(GENEROUS_S)


def test_an_app_that_exits_ends_with_an_error_and_others_go_on(start: Start) -> None:
    start()

    @python_app
    def leave(status: object) -> None:
        sys.exit(status)  # type: ignore[arg-type]

    @python_app
    def interrupt() -> None:
        raise KeyboardInterrupt

    @python_app
    def one() -> int:
        return 1

    ends = [future.exception(GENEROUS_S) for future in (leave(3), leave(None), leave("no such option"), interrupt())]
    assert [type(end) for end in ends] == [ProcessExitedError] * 4
    assert [end.exit_status for end in ends] == [3, 0, 1, 1]
    assert [type(end.__cause__) for end in ends] == [SystemExit] * 3 + [KeyboardInterrupt]
    assert "leave" in str(ends[0])
    assert one().result(GENEROUS_S) == 1


def test_a_future_for_parsl_has_no_error_that_ends_a_process() -> None:
    from envpack_executor.parsl.calls import AppCall

    with ContextExecutor(max_workers=1) as executor:
        failed, exited = executor.submit(int, "a"), executor.submit(sys.exit, 4)
        assert executor.submit(abs, -2).result(GENEROUS_S) == 2
        failed.__class__ = exited.__class__ = AppCall
        assert isinstance(failed.exception(0), ValueError)
        with pytest.raises(ValueError, match="invalid literal"):
            failed.result(0)
        with pytest.raises(ProcessExitedError, match="exit status 4"):
            exited.result(0)
        assert isinstance(exited.exception(0), ProcessExitedError)
        assert "exit status 4" in executor.why(exited)


def test_a_task_below_a_python_app_brings_its_context(start: Start) -> None:
    executor = start()

    @python_app
    @task(context=(load, 100), category="shifted")
    def shift(number: int, offset: int, process: int) -> tuple[int, bool]:
        return number + offset, process == os.getpid()

    @python_app
    def ask(offset: int = 0, parsl_resource_specification: dict[str, Any] | None = None) -> int:
        return offset

    results = [future.result(GENEROUS_S) for future in [shift(number) for number in range(20)]]
    # As a specification of the call, which wins over what is declared, and does not reach the app.
    asked = ask(parsl_resource_specification={"context": (load, 7)})

    assert results == [(100 + number, True) for number in range(20)]
    assert asked.result(GENEROUS_S) == 7
    uses = {use.name: use for use in executor.stats().contexts}
    assert executor.stats().set_ups == 2
    assert set(uses) == {"load"}
    assert executor.stats().categories["shifted"].calls >= 1


def test_a_task_below_a_bash_app_brings_its_context(start: Start, tmp_path: Path) -> None:
    executor = start()

    @bash_app
    @task(context=(load, 100))
    def say(number: int, offset: int = 0, word: str = "has", stdout: str = str(tmp_path / "said")) -> str:
        return f"echo {number} {word} {offset}"

    @bash_app
    @task(context=(load, 100))
    def tell(number: int, stdout: str = "", *, offset: int) -> str:
        return f"echo {number} {offset}"

    @bash_app
    def ask(offset: int = 0, stdout: str = "", parsl_resource_specification: dict[str, Any] | None = None) -> str:
        return f"echo {offset}"

    def said(future: Future[int]) -> str:
        assert future.result(GENEROUS_S) == 0
        return (tmp_path / "said").read_text().splitlines()[-1]  # Parsl appends

    path = str(tmp_path / "said")
    assert said(say(1)) == "1 has 100"
    assert said(say(2, offset=5, word="got")) == "2 got 5"
    assert said(tell(3, stdout=path)) == "3 100"
    assert said(ask(stdout=path, parsl_resource_specification={"context": (load, 7)})) == "7"
    assert said(ask(stdout=path)) == "0"
    assert executor.stats().set_ups == 3


def test_a_bash_app_gets_its_defaults_and_context_also_by_serializers_of_parsl(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()

    @bash_app
    @task(context=(load, 100))
    def say(number: int, offset: int = 0, stdout: str = str(tmp_path / "said")) -> str:
        return f"echo {number} {offset}"

    with monkeypatch.context() as of_data:
        backwards = Backwards()
        of_data.setattr(facade, "methods_for_data", {backwards.identifier: backwards})
        assert say(1).result(GENEROUS_S) == 0
    monkeypatch.setattr(facade, "methods_for_code", {DillSerializer.identifier: DillSerializer()})
    assert say(2).result(GENEROUS_S) == 0
    assert (tmp_path / "said").read_text() == "1 100\n2 100\n"


def test_what_is_there_is_told_as_by_other_executors(start: Start) -> None:
    executor = start()

    @python_app
    def nothing() -> None:
        return None

    future = nothing()
    future.result(GENEROUS_S)
    (manager,) = executor.connected_managers()

    assert (manager["block_id"], manager["worker_count"], manager["active"]) == ("0", 1, True)
    assert executor.connected_blocks() == ["0"]
    assert executor.workers_per_node == 1
    assert executor.outstanding() == 0
    assert executor.why(future) == "done"
    assert executor.get_usage_information() == {"environment": "inherit", "allocations": False}
    assert "label='ours'" in repr(executor)
    key_file = Path(executor.run_dir, "ours", "worker.key")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert str(key_file) in executor._get_launch_command("5")


def test_blocks_come_with_calls_and_idle_ones_leave(start: Start) -> None:
    executor = start(QuickProvider(init_blocks=0, min_blocks=0, max_blocks=2))

    @python_app
    def pid() -> int:
        return os.getppid()

    assert executor.connected_managers() == []
    workers = {future.result(GENEROUS_S) for future in [pid() for _ in range(4)]}
    wait_until(lambda: not executor.connected_managers(), "all blocks are given up")
    wait_until(lambda: are_gone(workers), "the workers of blocks that were given up end")
    assert pid().result(GENEROUS_S) not in workers


@python_app
def wait_for(path: str) -> int:
    """Return which worker has waited for a file."""
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getppid()


@pytest.mark.slow
def test_an_idle_block_leaves_while_another_works(start: Start, tmp_path: Path) -> None:
    executor = start(QuickProvider(init_blocks=0, min_blocks=0, max_blocks=2), strategy="htex_auto_scale")
    short, long = wait_for(str(tmp_path / "short")), wait_for(str(tmp_path / "long"))
    wait_until(lambda: sum(node["tasks"] for node in executor.connected_managers()) == 2, "both calls run")
    (tmp_path / "short").touch()
    idle = short.result(GENEROUS_S)
    wait_until(lambda: len(executor.connected_managers()) == 1, "the idle block leaves")
    (tmp_path / "long").touch()

    assert long.result(GENEROUS_S) != idle
    wait_until(lambda: are_gone([idle]), "its worker ends")


@pytest.mark.slow
def test_workers_leave_before_their_wall_time_and_calls_go_on_in_other_blocks(start: Start) -> None:
    executor = start(QuickProvider(init_blocks=1, min_blocks=1, max_blocks=2), worker_wall_time_s=4.0)

    @python_app
    def nap(number: int) -> int:
        import time

        time.sleep(0.5)
        return number

    assert [future.result(GENEROUS_S) for future in [nap(number) for number in range(14)]] == list(range(14))
    assert len(executor.connected_blocks()) >= 2
    ended = [status for status in executor.status_facade.values() if status.terminal]
    assert {status.state for status in ended} <= {JobState.COMPLETED, JobState.SCALED_IN}


def test_allocations_are_learned_by_app(start: Start) -> None:
    executor = start(allocations="auto", memory="2GB")

    @python_app
    def add(one: int, other: int) -> int:
        return one + other

    assert [add(number, 1).result(GENEROUS_S) for number in range(3)] == [1, 2, 3]
    (category,) = executor.stats().categories
    assert category.endswith("test_allocations_are_learned_by_app.<locals>.add")


@pytest.mark.slow
def test_a_lost_worker_costs_no_call_while_blocks_can_come(start: Start, tmp_path: Path) -> None:
    # By Parsl's own handler of errors, one block that fails is one too many when there was no other.
    executor = start(
        QuickProvider(init_blocks=1, min_blocks=1, max_blocks=2),
        block_error_handler=False,
        heartbeat_period=0.2,
        heartbeat_threshold=2,
    )

    future = wait_for(str(tmp_path / "go"))
    wait_until(lambda: any(node["tasks"] for node in executor.connected_managers()), "the call runs")
    (first,) = executor._started().nodes()
    os.kill(first.pid, 9)
    (tmp_path / "go").touch()

    assert future.result(GENEROUS_S) != first.pid
    assert executor.connected_blocks() == ["0", "1"]


def test_blocks_that_nobody_joins_from_end_all_calls_with_the_reason(start: Start) -> None:
    executor = start(program=("false",))

    @python_app
    def nothing() -> None:
        return None

    future = nothing()

    with pytest.raises(BadStateException, match="EXIT CODE: 1"):
        future.result(GENEROUS_S)
    assert executor.status_facade["0"].state is JobState.MISSING
    assert "no worker of this block has joined" in str(executor.executor_exception)
    assert "ours/worker.key" not in os.listdir(executor.run_dir)
    with pytest.raises(Exception, match="no worker of this block has joined"):
        executor.submit(len, {}, [])


def test_shutdown_ends_calls_that_are_open(tmp_path: Path) -> None:
    executor = ContextReuseExecutor(label="ours")
    executor.run_dir = str(tmp_path)
    assert executor.outstanding() == 0
    with pytest.raises(ExecutorError, match="has not been started"):
        executor.connected_managers()
    executor.start()
    future = executor.submit(len, {}, [1, 2])  # nobody asks for a block

    assert "no node has joined" in executor.why(future)
    executor.shutdown()

    assert isinstance(future.exception(0), ShutdownError)
    assert list((tmp_path / "ours").iterdir()) == []


def test_a_profile_is_for_the_program_and_lets_no_app_run_beside_the_blocks(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text("""
        [executor]
        max_workers = 2
        memory = "1MB"
        environment = "/nowhere"
        initializer = { function = "sys.exit" }

        [nodes]
        kind = "nobody knows"
        """)
    monkeypatch.setenv("ENVPACK_PROFILE", str(profile))
    executor = start()

    @python_app
    def block() -> str | None:
        return os.environ.get("PARSL_WORKER_BLOCK_ID")

    assert {future.result(GENEROUS_S) for future in [block() for _ in range(4)]} == {"0"}
    assert [node.block for node in executor._started().nodes()] == ["0"]


def test_killing_an_executor_gives_open_calls_the_error_of_the_callers_choice() -> None:
    from envpack_executor import RemoteNodes

    executor = ContextExecutor(nodes=RemoteNodes())
    waiting: Future[int] = executor.submit(len, "ab")
    executor.kill(OSError("the machine burns"))

    assert isinstance(waiting.exception(0), OSError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(len, "ab")


def test_a_provider_of_other_machines_needs_an_address() -> None:
    with pytest.raises(ExecutorError, match=r"SlurmProvider.*address_by_interface"):
        ContextReuseExecutor(provider=SlurmProvider())
    executor = ContextReuseExecutor(provider=SlurmProvider(walltime="01:00:00"), address="192.0.2.7")
    assert executor.worker_wall_time_s == 3540


def test_specifications_say_what_a_call_needs() -> None:
    apps = Apps(None, is_strict=False)
    said = {"cores": 2, "memory": 100, "disk": 5, "gpus": 1, "priority": 3, "running_time_min": 60, "env": "auto"}
    options = apps.task(load, said).options

    assert options.resources is not None
    assert (options.resources.cores, options.resources.gpus) == (2, 1)
    assert (options.resources.memory_bytes, options.resources.disk_bytes) == (100 << 20, 5 << 20)
    assert (options.priority, options.least_s) == (3, 60.0)
    assert options.environment.function is load
    assert options.environment.include == ("parsl",)
    assert apps.task(load, dict(said)) is apps.task(load, said)
    assert apps.task(load, {}) is apps.task(load, {})
    assert apps.task(load, {}) is not apps.task(load, said)
    with pytest.raises(TaskError, match="gpus"):
        apps.task(load, {"gpus": 1.5})
    with pytest.raises(TaskError, match="priority"):
        apps.task(load, {"priority": "high"})


def test_a_specification_wins_over_what_it_names_and_leaves_the_rest() -> None:
    apps = Apps("auto", is_strict=False)
    declared = task(resources={"gpus": 1, "cores": 4, "memory": "1GB"}, environment="/usr", priority=3)(load)

    more = apps.task(declared, {"memory": 4000, "gpus": None}).options
    assert more.resources == Allocation(cores=4, gpus=1, memory_bytes=4000 << 20)
    assert (more.priority, more.environment) == (3, "/usr")
    assert apps.task(declared, {"cores": 2}).options.resources == Allocation(cores=2, gpus=1, memory_bytes=10**9)
    assert apps.task(declared, {"environment": None}).options.environment is None
    assert apps.task(load, {"env": None}).options.environment is None
    assert apps.task(declared, {"environment": None}).options.resources == declared.options.resources


@pytest.mark.parametrize(
    ("said", "resources", "priority", "least_s"),
    [
        (None, None, 0, 0),
        ({"gpus": 0, "disk": 0, "memory": 0.0}, None, 0, 0),
        (
            {"cores": 1, "memory": 1000, "disk": 10, "gpus": 0},
            Allocation(memory_bytes=1000 << 20, disk_bytes=10 << 20),
            0,
            0,
        ),
        ({"priority": 1.0}, None, 1, 0),
        ({"priority": -2.5, "running_time_min": 0}, None, -2.5, 0),
        ({"running_time_min": 90}, None, 0, 90),
    ],
)
def test_specifications_for_other_executors_of_parsl_are_taken(
    said: Any, resources: Any, priority: float, least_s: float
) -> None:
    options = Apps(None, is_strict=True).task(load, said).options
    assert (options.resources, options.priority, options.least_s) == (resources, priority, least_s)


def test_a_specification_of_0_gpus_takes_back_what_was_declared() -> None:
    declared = task(resources={"gpus": 1, "cores": 4})(load)
    assert Apps(None, is_strict=True).task(declared, {"gpus": 0}).options.resources == Allocation(cores=4)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"cores": 0}, "resources: cores is 0, expected more than 0"),
        ({"memory": -1}, "resources: memory is -1048576, expected more than 0"),
        ({"memory": "4GB"}, "memory is '4GB', expected a number"),
        ({"priority": float("nan")}, "priority is nan, expected a number"),
        ({"running_time_min": -5}, "running_time_min is -5, expected 0 seconds or more"),
        ({"running_time_min": "10"}, "running_time_min is '10', expected 0 seconds or more"),
    ],
)
def test_what_a_specification_cannot_say_is_an_error_that_names_it(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(TaskError, match=problem):
        Apps(None, is_strict=True).task(load, said)


def test_unknown_keys_are_warned_of_once_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    apps = Apps(None, is_strict=False)
    for _ in range(3):
        assert apps.task(load, {"cpus": 1}).options.resources is None
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith("resource specification has 'cpus', which nobody knows: expected some of cores, memory,")
    with pytest.raises(InvalidResourceSpecification):
        Apps(None, is_strict=True).task(load, {"cpus": 1})


def test_an_app_that_is_wrapped_anew_for_each_call_is_not_remembered_for_ever() -> None:
    apps = Apps(None, is_strict=False)
    for _ in range(1000):
        apps.task(lambda: None, {"context": (load, [1])})
    assert len(apps._known) <= 256


def test_what_is_below_parsls_wrappers_is_the_app() -> None:
    declared = task(context=(load, 1))(load)

    assert unwrapped(python_app(load).func) is load
    assert unwrapped(python_app(declared).func) is declared
    assert unwrapped(bash_app(load).wrapped_remote_function) is load
    assert unwrapped(load) is load


def test_blocks_that_idle_for_longest_go_first() -> None:
    from envpack_executor.manager.overview import NodeStatus

    def node(block: str, running: int, idle_s: float) -> NodeStatus:
        return NodeStatus(block + "n", "n", "h", 1, block, "3.11", 1, None, 0, running, idle_s, False, 1.0)

    nodes = [node("a", 0, 5.0), node("b", 0, 9.0), node("b", 2, 0.0), node("c", 0, 7.0), node("e", 1, 0.0)]
    registry = Registry()

    assert registry.least_busy("abcde", nodes) == ["d", "c", "a", "e", "b"]
    assert registry.least_busy("abcde", nodes, 6.0) == ["d", "c"]


def test_only_those_that_ended_and_never_joined_are_missing(start: Start) -> None:
    executor = start()
    wait_until(lambda: executor.connected_blocks() == ["0"], "the first block joins")
    executor._simulated_status["7"] = JobStatus(JobState.COMPLETED)
    executor._simulated_status["8"] = JobStatus(JobState.PENDING)

    found = executor.status()

    assert {block: status.state for block, status in found.items()} == {
        "0": JobState.RUNNING,
        "7": JobState.MISSING,
        "8": JobState.PENDING,
    }


@pytest.mark.slow
def test_serializers_that_somebody_has_registered_are_used(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = start()

    @python_app
    @task(context=(load, 100))
    def join(word: str, *, offset: int = 0) -> str:
        return f"{word}{offset}"

    backwards = Backwards()
    monkeypatch.setattr(facade, "methods_for_data", {backwards.identifier: backwards})

    assert join("ab").result(GENEROUS_S) == "ab100"
    assert executor.stats().categories[f"{__name__}.{join.func.__qualname__}"].calls >= 0
    with pytest.raises(TypeError, match="set is not JSON"):
        join({1}).result(GENEROUS_S)


def test_an_app_goes_by_a_serializer_for_code_where_somebody_has_registered_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = python_app(load).func
    opener, data = packed(function, Apps(None, is_strict=False).task(function, {}), (3,), {})
    assert (b"load" in data, opener.function(data)["offset"]) == (False, 3)

    monkeypatch.setattr(facade, "methods_for_code", {DillSerializer.identifier: DillSerializer()})
    opener, data = packed(function, Apps(None, is_strict=False).task(function, {}), (3,), {})
    assert (b"load" in data, opener.function(data)["offset"]) == (True, 3)


def test_what_only_parsls_serializers_take_goes_by_these(start: Start) -> None:
    start()
    lock = threading.Lock()

    @python_app
    def is_locked(lock: Any) -> bool:
        return bool(lock.locked())

    assert is_locked(lock).result(GENEROUS_S) is False
    with pytest.raises(TypeError, match="generator"):
        is_locked(number for number in range(3)).result(GENEROUS_S)


def test_monitoring_is_told_what_happens_by_the_client(tmp_path: Path) -> None:
    told: queue.SimpleQueue[tuple[MessageType, dict[str, Any]]] = queue.SimpleQueue()
    executor = ContextReuseExecutor(label="ours", provider=QuickProvider(), max_workers_per_node=1)
    executor.run_dir, executor.run_id, executor.monitoring_messages = str(tmp_path), "run", told
    executor.provider.script_dir = str(tmp_path)
    executor.start()
    try:
        executor.scale_out_facade(1)
        asked = {"f": python_app(load).func, "args": (5,), "kwargs": {}, "x_task_id": 3, "x_try_id": 1}
        asked |= {"radio_config": executor.remote_monitoring_radio, "run_id": "run", "logging_level": 0}
        asked |= {"sleep_dur": 1.0, "monitor_resources": executor.monitor_resources(), "run_dir": str(tmp_path)}
        function, args, kwargs = monitor_wrapper(**asked)
        assert executor.submit(function, {}, *args, **kwargs).result(GENEROUS_S)["offset"] == 5
        assert executor.scale_in_facade(1) == ["0"]
        wait_until(lambda: not executor.connected_managers(), "the worker leaves")
    finally:
        executor.shutdown()

    messages = [told.get() for _ in range(told.qsize())]
    of_nodes = [message for kind, message in messages if kind is MessageType.NODE_INFO]
    of_tasks = [message for kind, message in messages if kind is MessageType.WORKER_TASK_INFO]
    before, after = (message for kind, message in messages if kind is MessageType.RESOURCE_INFO)
    assert [message["active"] for message in of_nodes] == [True, False, False]
    assert {(message["block_id"], message["run_id"], message["worker_count"]) for message in of_nodes} == {
        ("0", "run", 1)
    }
    assert [(message["first_msg"], message["block_id"], message["task_id"]) for message in of_tasks] == [
        (True, "0", 3),
        (False, "0", 3),
    ]
    assert (after["task_id"], after["try_id"], before["psutil_process_time_user"]) == (3, 1, 0.0)
    assert after["psutil_process_memory_resident"] > 1_000_000
    assert after["timestamp"] > before["timestamp"]


@pytest.mark.slow
def test_an_app_gets_the_environment_that_is_discovered_for_it(start: Start) -> None:
    executor = start(environment="auto")

    @python_app
    @task(context=(load, 1))
    def look(offset: int = 0) -> tuple[bool, int]:
        import importlib.util

        import yaml

        found = [importlib.util.find_spec(name) is not None for name in ("yaml", "parsl", "distributed")]
        assert found == [True, True, False]
        return yaml.safe_load("yes"), offset

    @python_app
    def fail() -> None:
        raise LookupError("nothing there")

    assert look().result(2 * GENEROUS_S) == (True, 1)
    with pytest.raises(LookupError, match="nothing there"):
        fail().result(2 * GENEROUS_S)
    assert executor.get_usage_information()["environment"] == "auto"


def test_a_plain_app_needs_no_parsl_and_its_exceptions_are_seen(start: Start, tmp_path: Path) -> None:
    executor = start()

    @python_app
    @task(retries=2)
    def fail(path: str) -> None:
        with open(path, "a") as file:
            file.write("tried ")
        raise LookupError("nothing there")

    @python_app
    def has_parsl() -> bool:

        return "parsl" in sys.modules

    error = fail(str(tmp_path / "tries")).exception(GENEROUS_S)

    assert isinstance(error, LookupError)
    assert "in fail" in str(error.__cause__)
    assert (tmp_path / "tries").read_text().split() == ["tried"] * 3
    assert has_parsl().result(GENEROUS_S) is False
    assert executor.stats().set_ups == 1
