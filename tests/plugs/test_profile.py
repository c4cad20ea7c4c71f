"""Profiles: what the same program is told elsewhere, without a line of it that changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, RemoteNodes
from envpack_executor.errors import ProfileError
from envpack_executor.parsl import ProviderNodes
from envpack_executor.profile import Profile
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, environ

KNOWN = ("max_workers", "environment", "initializer", "initargs", "nodes", "idle_timeout_s", "events", "store")


class Thing:
    """Something that a profile makes and that is closed."""

    closed: list[str]

    def __init__(self, name: str, inner: Thing | None = None) -> None:
        self.name, self.inner = name, inner

    def close(self) -> None:
        Thing.closed.append(self.name)


class Teller(Thing):
    def __call__(self, *said: Any) -> None:
        assert Thing.closed == []


class NodesOfThing(RemoteNodes):
    def __init__(self, thing: Thing) -> None:
        super().__init__()
        self.thing = thing


@pytest.fixture(autouse=True)
def closed() -> list[str]:
    Thing.closed = []
    return Thing.closed


def profile(text: str) -> Profile:
    import tomllib

    return Profile(Path("/etc/site.toml"), tomllib.loads(text))


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> Path:
    path = folder / "profile.toml"
    path.write_text(text)
    monkeypatch.setenv("ENVPACK_PROFILE", str(path))
    return path


# --- what an executor makes of it


def test_options_come_from_the_profile_where_the_program_leaves_them_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path, f'[executor]\nmax_workers = 3\nevents = "{tmp_path}/events"\n')
    with ContextExecutor() as executor:
        assert executor.nodes()[0].cores == 3
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
    with ContextExecutor(1) as executor:
        assert executor.nodes()[0].cores == 1
    with ContextExecutor(max_workers=2) as executor:
        assert executor.nodes()[0].cores == 2
    assert (tmp_path / "events").read_text()


def test_calls_go_to_the_nodes_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environ()["PYTHONPATH"])
    monkeypatch.setenv("ENVPACK_RUNS", str(tmp_path / "runs"))
    use(
        monkeypatch,
        tmp_path,
        f"""
        [nodes]
        kind = "provider"
        cores = 1
        store = "{tmp_path}/block-store"
        heartbeat = {{ every_s = 0.2, silence_s = 2.0 }}

        [nodes.provider]
        class = "parsl.providers.LocalProvider"
        init_blocks = 0
        launcher = {{ class = "parsl.launchers.SimpleLauncher" }}
        """,
    )
    with ContextExecutor() as executor:
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert [bool(node.block) for node in executor.nodes()] == [True]
        # An executor that a call makes is its own, and not one of a cluster within the cluster.
        assert executor.submit(os.getenv, "ENVPACK_PROFILE").result(GENEROUS_S) is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("nodes", [None, RemoteNodes()])
def test_nodes_in_the_program_win_also_when_they_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: Any
) -> None:
    use(monkeypatch, tmp_path, '[nodes]\nkind = "remote"\nbind = "tcp://256.0.0.1:1"\n')
    with ContextExecutor(max_workers=1, nodes=nodes) as executor:
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4


def test_what_was_made_for_a_profile_is_closed_when_the_executor_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    inner = f'inner = {{ class = "{__name__}.Thing", name = "inner" }}'
    thing = f'[nodes.thing]\nclass = "{__name__}.Thing"\nname = "outer"\n{inner}\n'
    use(monkeypatch, tmp_path, f'[nodes]\nkind = "{__name__}.NodesOfThing"\n{thing}')
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert closed == []
    assert closed == ["outer", "inner"]
    with pytest.raises(ValueError, match="max_workers"):
        ContextExecutor(max_workers=0)
    assert closed == ["outer", "inner"] * 2


def test_what_was_made_for_an_option_is_closed_without_nodes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    thing = f'{{ class = "{__name__}.Teller", name = "teller" }}'
    use(monkeypatch, tmp_path, f"[executor]\nmax_workers = 1\non_usage = {thing}\n")
    with ContextExecutor() as executor:
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
        assert closed == []
    assert closed == ["teller"]
    with ContextExecutor(on_usage=None):
        pass
    with pytest.raises(ValueError, match="setup_timeout_s"):
        ContextExecutor(setup_timeout_s=-1)
    assert closed == ["teller"] * 2


def test_a_profile_that_is_not_there_or_no_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_PROFILE", str(tmp_path / "absent.toml"))
    with pytest.raises(ProfileError, match=r"absent\.toml cannot be read: No such file"):
        ContextExecutor()
    path = use(monkeypatch, tmp_path, "max_workers: 3")
    with pytest.raises(ProfileError, match="is no TOML") as error:
        ContextExecutor()
    assert str(path) in str(error.value)
    assert error.value.exit_code == 2


# --- what stands in it


def test_objects_functions_and_false_stand_for_themselves() -> None:
    said = profile(
        f"""
        [executor]
        idle_timeout_s = false
        initargs = [1, "two"]
        initializer = {{ function = "{functions.__name__}.double" }}
        """
    ).options(KNOWN, {})
    assert said["idle_timeout_s"] is None
    assert said["initargs"] == (1, "two")
    assert said["initializer"] is functions.double


def test_local_and_no_nodes_are_the_same() -> None:
    assert "nodes" not in profile('[nodes]\nkind = "local"\n').options(KNOWN, {})
    assert profile("").options(KNOWN, {}) == {}


def test_provider_and_launcher_are_made_by_their_names() -> None:
    nodes = profile(
        """
        [nodes]
        kind = "provider"
        idle_timeout_s = 30.0
        [nodes.provider]
        class = "parsl.providers.LocalProvider"
        max_blocks = 4
        """
    ).options(KNOWN, {})["nodes"]
    assert isinstance(nodes, ProviderNodes)
    assert (nodes._scaling.max_blocks, nodes._scaling.idle_s) == (4, 30.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[node]\n", "unknown 'node', expected one of executor, nodes"),
        ("nodes = 3\n", "'nodes' is 3, expected a table"),
        ("[executor]\nworkers = 3\nmemry = 1\n", "unknown 'executor.memry', 'executor.workers', expected one of env"),
        ('[executor]\nnodes = "local"\n', r"unknown 'executor\.nodes'"),
        ('[nodes]\nkind = "slurm"\n', "'nodes.kind' is 'slurm', expected dask, local, provider, remote or the dotted"),
        ("[nodes]\ncores = 3\n", "'nodes.kind' is None"),
        ('[nodes]\nkind = "local"\ncores = 3\n', "unknown 'nodes.cores', expected one of nothing here"),
        ('[nodes]\nkind = "remote"\nport = 3\n', "unknown 'nodes.port', expected one of bind, bulk"),
        ('[nodes]\nkind = "remote"\nheartbeat = { every = 1 }\n', "unknown 'nodes.heartbeat.every', .* every_s, sil"),
        ('[nodes]\nkind = "remote"\nbulk = "fast"\n', "'nodes' cannot be made: .*RemoteNodes: ValueError: bulk is"),
        ('[nodes]\nkind = "provider"\n', "'nodes' cannot be made: .* missing 1 required .* 'provider'"),
        ('[nodes]\nkind = "provider"\nprovider.class = "Slurm"\n', "'nodes.provider.class' is 'Slurm', expected a dot"),
        ('[nodes]\nkind = "provider"\nprovider.class = "parsl.providers.No"\n', "names 'parsl.providers.No', which c"),
        (
            '[nodes]\nkind = "provider"\nprovider = { class = "parsl.providers.LocalProvider", b = 1 }\n',
            "provider.b'",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_file_key_and_what_is_known(text: str, problem: str) -> None:
    with pytest.raises(ProfileError, match=problem) as error:
        profile(text).options(KNOWN, {})
    assert "profile /etc/site.toml: " in str(error.value)
