"""Tasks of a Dask cluster run in retained contexts on its own workers, nannies and all."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
from dask._task_spec import Task
from distributed import Client, LocalCluster, Reschedule

from envpack import pack
from envpack.pack import Store
from envpack_executor import task
from envpack_executor.dask import EnvpackPlugin, share
from envpack_executor.dask.bridge import Bridge, Coming
from envpack_executor.errors import EnvironmentPreparationError, ProcessExitedError, ProcessLostError
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, descendants, wait_until
from tests.plugs import functions as plugs

WORKERS = 2


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two workers under nannies, on this machine."""
    options = {
        "n_workers": WORKERS,
        "threads_per_worker": 1,
        "dashboard_address": ":0",  # without one the default port is tried, and may be taken
        "silence_logs": logging.CRITICAL,
    }
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_left_behind(client: Client, own_folders: Path) -> Iterator[None]:
    """No test leaves a process or a temporary file; threads and descriptors are Dask's own matter."""
    before = set(descendants(os.getpid()))
    yield
    wait_until(lambda: set(descendants(os.getpid())) <= before, "what the test began has ended")
    assert list(Path(tempfile.gettempdir()).glob("envpack*")) == []


@pytest.fixture
def plugged(client: Client, own_folders: Path) -> Iterator[Client]:
    """The cluster, with the plugin for the length of a test."""
    yield from plug(client, own_folders, None)


def plug(client: Client, folder: Path, environment: Any) -> Iterator[Client]:
    plugin = EnvpackPlugin(environment, store=str(folder / "store"), history=str(folder / "history.sqlite"))
    client.register_plugin(plugin)
    try:
        yield client
    finally:
        client.unregister_worker_plugin(plugin.name)
        client.log_event("envpack", {"end": "of a test"})


def show_unpacking(file: str) -> None:
    for name in ("envpack", "envpack_executor"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(logging.FileHandler(file))


def set_ups(dask_worker: Any) -> int:
    return int(dask_worker.executors["envpack"].executor.stats().set_ups)


def test_tasks_that_choose_it_share_the_contexts_of_their_nanny_worker(plugged: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    logged = task(context=(functions.log_set_up, str(log)))(plugs.where)
    with dask.annotate(executor="envpack"):
        answers = plugged.gather(plugged.map(logged, range(30)))
    pids = {pid for pid, _ in answers}
    assert all(plugged.run(plugs.is_daemonic).values())
    assert sorted(log.read_text().split()) == sorted(map(str, pids))
    assert len(pids) == sum(plugged.run(set_ups).values()) <= WORKERS
    assert pids.isdisjoint(plugged.run(os.getpid).values())


@pytest.mark.slow
def test_tasks_that_do_not_choose_it_run_in_the_worker_as_ever(plugged: Client) -> None:
    pid, _ = plugged.submit(plugs.where, 0, pure=False).result(GENEROUS_S)
    assert pid in plugged.run(os.getpid).values()


@pytest.mark.slow
def test_arguments_come_from_other_tasks_in_every_shape(plugged: Client) -> None:
    with dask.annotate(executor="envpack"):
        first = plugged.submit(functions.double, 4)
        assert plugged.submit(functions.double, first).result(GENEROUS_S) == 16
        assert plugged.submit(functions.keywords, number=first).result(GENEROUS_S) == functions.keywords(number=8)
        assert plugged.submit(sum, [first, 1, 2]).result(GENEROUS_S) == 11
        doubled = [dask.delayed(functions.double)(number) for number in range(5)]
        assert dask.delayed(sum)(doubled).compute(scheduler=plugged) == 20
        assert plugged.gather(plugged.map(plugs.abs_of, [1, -2], plus=first, pure=False)) == [9, 10]


@pytest.mark.parametrize("ending", [plugs.exits, plugs.leaves])
def test_death_of_a_child_is_the_end_of_its_task_alone(plugged: Client, ending: Any) -> None:
    before = plugged.run(os.getpid)
    with dask.annotate(executor="envpack"):
        dying = plugged.submit(ending, 3, pure=False)
        others = plugged.map(functions.double, range(20), pure=False)
        with pytest.raises((ProcessExitedError, ProcessLostError), match=r"exit status 3"):
            dying.result(GENEROUS_S)
        assert plugged.gather(others) == [2 * number for number in range(20)]
        assert plugged.submit(functions.double, 7, pure=False).result(GENEROUS_S) == 14
    assert plugged.run(os.getpid) == before


def test_usage_of_each_task_is_logged_to_events_of_dask(plugged: Client) -> None:
    with dask.annotate(executor="envpack"):
        good = plugged.submit(plugs.where, 1, pure=False)
        bad = plugged.submit(plugs.fails, "no", pure=False)
        with pytest.raises(ValueError, match="no"):
            bad.result(GENEROUS_S)
        good.result(GENEROUS_S)

    def events() -> dict[str, dict[str, Any]]:
        return {event["key"]: event for _, event in plugged.get_events("envpack") if "key" in event}

    wait_until(lambda: {good.key, bad.key} <= set(events()), "both are logged")
    assert events()[good.key]["category"] == f"{plugs.where.__module__}.where"
    assert events()[good.key]["peak_memory_bytes"] > 0
    assert events()[good.key]["worker"] in plugged.run(os.getpid)
    assert "failure" not in events()[good.key]
    assert events()[bad.key]["failure"] == "ValueError"


@pytest.mark.slow
def test_a_pack_is_unpacked_once_for_all_workers_of_a_host(client: Client, own_folders: Path) -> None:
    log = own_folders / "unpacking"
    client.run(show_unpacking, str(log))
    file = own_folders / "versions.tar.zst"
    manifest = pack(plugs.uses_packaging, output=file)
    plugging = plug(client, own_folders, file)
    next(plugging)
    try:
        with dask.annotate(executor="envpack"):
            workers = list(client.run(os.getpid))
            texts = [f"1.{number}" for number in range(WORKERS)]
            asked = zip(workers, texts, strict=True)
            tasks = [client.submit(plugs.uses_packaging, text, workers=[each], pure=False) for each, text in asked]
            answers = client.gather(tasks)
    finally:
        plugging.close()
    assert [text for text, _, _ in answers] == texts
    assert len({prefix for _, prefix, _ in answers}) == 1
    assert not any(has_dask for _, _, has_dask in answers)
    unpacked = [line for line in log.read_text().splitlines() if line.startswith("unpacked layer")]
    assert sorted(unpacked) == sorted(f"unpacked layer {ref.digest}" for ref in manifest.layers)


@pytest.mark.slow
def test_a_shared_pack_comes_once_to_a_host_that_does_not_see_the_client(client: Client, own_folders: Path) -> None:
    log, store = own_folders / "fetching", own_folders / "store-of-the-client"
    client.run(show_unpacking, str(log))
    manifest = pack(plugs.uses_packaging, store=Store(store))
    assert share(client, manifest, store=store) == manifest
    plugging = plug(client, own_folders / "elsewhere", manifest)
    next(plugging)
    try:
        with dask.annotate(executor="envpack"):
            versions = [answer[0] for answer in client.gather(client.map(plugs.uses_packaging, ["1", "2"], pure=False))]
    finally:
        plugging.close()
    assert versions == ["1", "2"]
    fetched = [line for line in log.read_text().splitlines() if line.startswith("fetched layer")]
    assert sorted(fetched) == sorted(f"fetched layer {ref.digest} from Dask's scheduler" for ref in manifest.layers)


@pytest.mark.slow
def test_a_pack_that_nobody_shared_is_an_error_where_the_plugin_is_registered(
    client: Client, own_folders: Path
) -> None:
    manifest = pack(plugs.uses_packaging, store=Store(own_folders / "store-of-the-client"))
    lost = replace(manifest, layers=(replace(manifest.layers[0], digest="0" * 64), *manifest.layers[1:]))
    plugin = EnvpackPlugin(lost, store=str(own_folders / "elsewhere"))
    with pytest.raises(EnvironmentPreparationError, match=r"did not come .*share\(client, pack\)"):
        client.register_plugin(plugin)
    client.unregister_worker_plugin(plugin.name)


@pytest.mark.slow
def test_one_environment_is_discovered_for_all_tasks_of_a_function(client: Client, own_folders: Path) -> None:
    plugging = plug(client, own_folders, "auto")
    next(plugging)
    try:
        with dask.annotate(executor="envpack"):
            worker = next(iter(client.run(os.getpid)))
            found = client.gather(client.map(plugs.uses_packaging, ["1", "2", "3"], workers=[worker], pure=False))
            one = client.run(set_ups, workers=[worker])
    finally:
        plugging.close()
    assert [(text, has_dask) for text, _, has_dask in found] == [("1", False), ("2", False), ("3", False)]
    assert list(one.values()) == [1]


@pytest.mark.slow
def test_plugins_of_other_names_stand_beside_each_other_and_leave_when_asked(plugged: Client, tmp_path: Path) -> None:
    other = EnvpackPlugin(executor="other", store=str(tmp_path / "other"), history=None, max_workers=3)
    plugged.register_plugin(other)
    with dask.annotate(executor="other"):
        assert plugged.submit(functions.double, 21, pure=False).result(GENEROUS_S) == 42
    plugged.unregister_worker_plugin(other.name)
    names = plugged.run(lambda dask_worker: sorted(dask_worker.executors))
    assert all("other" not in known and "envpack" in known for known in names.values())


def test_a_plugin_that_is_registered_again_fails_no_task(plugged: Client, tmp_path: Path) -> None:
    with dask.annotate(executor="envpack"):
        futures = plugged.map(plugs.sleep_a_little, range(30), pure=False)
        futures[0].result(GENEROUS_S)
        again = EnvpackPlugin(store=str(tmp_path / "store"), history=None)
        plugged.register_plugin(again)
        assert plugged.gather(futures) == list(range(30))


def test_tasks_that_come_before_their_executor_wait_for_it() -> None:
    coming, bridge = Coming(), Bridge(1, print, {"history": None})
    node = Task("key", functions.double, 4)
    early, unwanted = (coming.submit(lambda node, data: node(data), node, {}) for _ in range(2))
    unwanted.cancel()
    coming.go_on(bridge)
    assert early.result(GENEROUS_S) == 8
    bridge.close()
    late = coming.submit(print)
    coming.shutdown()
    with pytest.raises(Reschedule):
        late.result(GENEROUS_S)


def test_calls_of_a_worker_have_its_threads_and_its_memory_together(plugged: Client) -> None:
    def limits(dask_worker: Any) -> tuple[float, int, int]:
        node = dask_worker.executors["envpack"].executor.nodes()[0]
        return node.cores, node.memory_bytes, dask_worker.memory_manager.memory_limit

    for cores, memory_bytes, limit_bytes in plugged.run(limits).values():
        assert cores == 1
        assert memory_bytes == limit_bytes


def test_what_runs_when_its_worker_closes_is_to_run_elsewhere(tmp_path: Path) -> None:
    bridge = Bridge(1, print, {"history": None})
    node = Task("key", functions.sleep_in, str(tmp_path / "started"), 100.0)
    future = bridge.submit(lambda node, data: node(data), node, {})
    wait_until((tmp_path / "started").exists, "the task has begun")
    bridge.shutdown()
    with pytest.raises(Reschedule):
        future.result(GENEROUS_S)


def test_a_profile_says_nothing_of_what_runs_on_a_worker_of_dask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text(
        '[executor]\nmax_workers = 3\ngpus = 2\nmemory = "1MB"\ninitializer = { function = "sys.exit" }\n'
    )
    monkeypatch.setenv("ENVPACK_PROFILE", str(profile))
    bridge = Bridge(1, print, {"history": None, "environment": None})
    try:
        (node,) = bridge.executor.nodes()
        assert (node.cores, node.memory_bytes) == (1, None)
        assert bridge.executor.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result(GENEROUS_S) is None
    finally:
        bridge.close()


def test_an_unknown_option_is_refused_where_the_plugin_is_made() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'max_wrokers', expected one of: .*max_workers"):
        EnvpackPlugin(max_wrokers=3)
