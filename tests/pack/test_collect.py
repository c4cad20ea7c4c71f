"""Collection: what is used by nobody goes by its last use; what somebody uses stays, whoever collects meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envpack.errors import LayerMissingError, UsageError
from envpack.pack import Manifest, Store, pack
from envpack.pack.store.processes import running_environments

WAIT = "import sys; print('ready', flush=True); sys.stdin.readline(); "
DAY_S = 86400.0

# Clients that take a pack in, make its environment and use it, over and over, while others collect all they can.
MAKE_AND_COLLECT = """
import os, sys
from pathlib import Path
from envpack.pack import Store
import envpack.discover, envpack.pack.store.collection
folder, file, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Store(folder)
expected = {}
def content(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in Path(place).rglob("p*/*.*")}
place = store.materialise(store.import_pack(file))
expected = content(place)
store.release()
def client():
    for _ in range(rounds):
        store = Store(folder)
        manifest = store.import_pack(file)
        assert content(store.materialise(manifest)) == expected
        assert store.missing(manifest) == ()
        store.export(manifest, f"{folder}.{os.getpid()}.tar.zst")
        store.release()
def collector():
    gone = 0
    for _ in range(4 * rounds):
        gone += len(Store(folder).collect(max_size_bytes=0).plan.removals)
    assert gone
children = []
for work in (client, client, client, collector, collector):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.fixture
def manifests(prefix, store: Store, needs) -> tuple[Manifest, Manifest]:
    """Two environments: one of `one`, and one of both."""
    prefix.install(
        "one", "1.0", {"one/__init__.py": "", "one/late.py": "value = 7\n", "one/big.bin": os.urandom(50_000)}
    )
    prefix.install("two", "1.0", {"two.py": "value = 2\n", "two.bin": os.urandom(80_000)})
    made = (
        pack(needs(("one", "1.0")), python=prefix.python, store=store),
        pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store),
    )
    store.release()
    return made


def used(store: Store, days_ago: float, *names: str) -> None:
    """Say that things of these names were last used then."""
    moment = time.time() - days_ago * DAY_S
    for name in names:
        os.utime(store.folder / "locks" / f"{name}.lock", (moment, moment))


@contextmanager
def process(*command: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a process that says when it is ready and waits for a line."""
    with subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    ) as child:
        assert child.stdout.readline() == "ready\n"
        yield child


def removed(store: Store, **limits: float) -> set[tuple[str, str]]:
    return {(item.part.kind, item.part.label) for item in store.collect(**limits).plan.removals}


def test_what_was_not_used_for_long_goes_and_what_others_need_stays(manifests, store: Store) -> None:
    one, both = manifests
    ready = store.materialise(both)
    store.release()
    refs = {ref.name: ref.digest for ref in both.layers}
    used(store, 40, both.id, ready.name, *refs.values())
    assert removed(store, older_than_s=30 * DAY_S) == {
        ("environment", ready.name[:12]),
        ("manifest", both.id[:12]),
        ("file", "two 1.0"),
        ("layer", "two 1.0"),
    }
    assert store.manifest_ids() == [one.id]
    assert store.has(refs["one"])
    assert not store.has(refs["two"])


def test_asking_for_an_environment_that_is_there_is_a_use(manifests, store: Store) -> None:
    ready = store.materialise(manifests[0])
    used(store, 40, ready.name)
    Store(store.folder).materialise(manifests[0])
    store.release()
    store.collect(older_than_s=30 * DAY_S)
    assert ready.exists()


def test_files_of_unpacked_layers_go_first_and_only_export_misses_them(manifests, store: Store, prefix, needs) -> None:
    one, both = manifests
    ready = store.materialise(one)
    store.release()
    used(store, 1, both.id, *(ref.digest for ref in both.layers))
    size = store.collect(max_size_bytes=0, is_dry=True).plan.before_bytes
    assert ("layer", "one 1.0") not in removed(store, max_size_bytes=size - 85_000)
    assert ("file", "one 1.0") in removed(
        store, max_size_bytes=store.collect(max_size_bytes=0, is_dry=True).plan.before_bytes - 1
    )
    assert store.materialise(one) == ready
    with pytest.raises(LayerMissingError, match=r"one 1\.0 .*pack again"):
        store.export(one, store.folder.parent / "x.tar.zst")
    assert pack(needs(("one", "1.0")), python=prefix.python, store=store) == one
    store.export(one, store.folder.parent / "x.tar.zst")


def test_packing_does_not_believe_in_layers_that_were_collected(manifests, store: Store, prefix, needs) -> None:
    store.collect(max_size_bytes=0)
    assert list((store.folder / "index").iterdir()) == []
    built: list[bool] = []
    again = pack(
        needs(("one", "1.0")), python=prefix.python, store=store, progress=lambda event: built.append(event.built)
    )
    assert (again, built) == (manifests[0], [True])
    assert (store.materialise(again) / "bin" / "python").exists()


def test_a_dry_run_says_what_would_go_and_takes_nothing(manifests, store: Store) -> None:
    store.materialise(manifests[1])
    store.release()
    before = store.ls()
    planned = store.collect(max_size_bytes=0, is_dry=True)
    assert store.ls() == before
    assert store.collect(max_size_bytes=0) == planned
    assert planned.plan.after_bytes == 0
    assert store.ls().layers == ()


def test_a_process_that_runs_from_an_environment_keeps_it(manifests, store: Store, tmp_path: Path) -> None:
    ready = store.materialise(manifests[0])
    store.release()
    code = WAIT + "from one import late; print(late.value)"
    with process(ready / "bin" / "python", "-P", "-c", code, cwd=tmp_path) as child:
        answer = store.collect(max_size_bytes=0)
        assert answer.in_use == (ready.name,)
        assert {item.part.label for item in answer.plan.removals} == {"one 1.0", "two 1.0", manifests[1].id[:12]}
        assert child.communicate("go\n", timeout=60)[0] == "7\n"
    store.collect(max_size_bytes=0)
    assert not ready.exists()


def test_a_process_is_known_by_its_variables_and_its_folder(manifests, store: Store, tmp_path: Path) -> None:
    ready = store.materialise(manifests[0])
    with process(sys.executable, "-c", WAIT, env={"PATH": f"{ready}/bin"}, cwd=tmp_path):
        assert ready.name in running_environments()
    with process(sys.executable, "-c", WAIT, env={}, cwd=ready):
        assert ready.name in running_environments()
    assert running_environments(str(tmp_path / "no-proc")) == {}


def test_what_a_client_asked_for_is_in_use_until_it_dies(manifests, store: Store) -> None:
    code = (
        "import json, sys; from envpack.pack import Store; store = Store(sys.argv[1])\n"
        "place = store.materialise(store.manifest(sys.argv[2])); store.add_manifest(store.manifest(sys.argv[3]))\n"
        + WAIT
    )
    with process(sys.executable, "-c", code, store.folder, manifests[0].id, manifests[1].id) as child:
        answer = store.collect(max_size_bytes=0)
        assert len(answer.in_use) == 1
        assert store.manifest_ids() == sorted(manifest.id for manifest in manifests)
        assert store.missing(manifests[1]) == ()
        child.kill()
    assert store.collect(max_size_bytes=0).plan.after_bytes == 0


@pytest.mark.slow
def test_collecting_under_clients_that_make_what_goes_harms_nobody(prefix, stores, needs, tmp_path: Path) -> None:
    for number in range(3):
        prefix.install(f"p{number}", "1.0", {f"p{number}/m{index}.py": f"x = {index}\n" for index in range(30)})
    answer = needs(*((f"p{number}", "1.0") for number in range(3)))
    pack(answer, python=prefix.python, store=stores(), output=tmp_path / "pack.tar.zst")
    store = stores()
    done = subprocess.run(
        [sys.executable, "-c", MAKE_AND_COLLECT, store.folder, tmp_path / "pack.tar.zst", "6"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{[0] * 5}\n", "", 0)
    store.collect(max_size_bytes=0)
    assert store.ls().layers == ()


def test_a_collection_without_a_limit_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="--max-size 20GB or --older-than 30d"):
        store.collect()
    assert store.collect(max_size_bytes=0).plan.removals == ()
