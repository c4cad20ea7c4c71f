"""From distributions in a real virtual environment to an environment that runs elsewhere."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.discover import analyze
from envpack.errors import DistributionFilesError, IncompatiblePackError, LayerConflictError, UsageError
from envpack.pack import LayerEvent, Manifest, pack

SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def paths(store, manifest: Manifest, name: str) -> set[str]:
    folder = store.materialise(manifest)
    assert folder
    (ref,) = [ref for ref in manifest.layers if ref.name == name]
    root = store.folder / "layers" / ref.digest
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_an_environment_holds_what_was_asked_for_and_nothing_else(prefix, store, needs, run_python) -> None:
    prefix.install("one", "1.0", {"one/__init__.py": "import two\n", "one/data.txt": "x"})
    prefix.install("two", "2.0", {"two.py": "value = 2\n"})
    prefix.install("other", "3.0", {"other.py": ""})
    manifest = pack(needs(("one", "1.0"), ("two", "2.0")), python=prefix.python, store=store)
    environment = store.materialise(manifest)
    python = environment / "bin" / "python"
    assert run_python(python, "import one; print(one.two.value)") == "2"
    assert (
        run_python(python, "import importlib.util as u; print(u.find_spec('other'), u.find_spec('pytest'))")
        == "None None"
    )
    assert str(prefix.folder) not in run_python(python, "import sys; print(sys.path, sys.prefix)")
    assert run_python(python, "import one; print(one.__file__)") == f"{environment}/{SITE}/one/__init__.py"


def test_an_environment_works_when_the_packed_one_is_gone(prefix, store, needs, run_python) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    manifest = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    shutil.rmtree(prefix.folder)
    assert run_python(store.materialise(manifest) / "bin" / "python", "import one; print(one.value)") == "1"


def test_packing_again_builds_nothing(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    prefix.install("two", "1.0", {"two.py": ""})
    events: list[LayerEvent] = []
    first = pack(needs(("one", "1.0")), python=prefix.python, store=store, progress=events.append)
    second = pack(needs(("one", "1.0")), python=prefix.python, store=store, progress=events.append)
    both = pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store, progress=events.append)
    assert [(event.ref.name, event.built, event.done, event.total) for event in events[:2]] == [
        ("one", True, 1, 1),
        ("one", False, 1, 1),
    ]
    assert {event.ref.name: event.built for event in events[2:]} == {"one": False, "two": True}
    assert first == second
    assert first.id == second.id != both.id


def test_editing_one_local_file_builds_one_layer(prefix, store, needs, tmp_path: Path, run_python) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    helper = tmp_path / "project" / "helper.py"
    helper.parent.mkdir()
    helper.write_text("import one\nvalue = 1\n")
    events: list[LayerEvent] = []
    answer = needs(("one", "1.0"), files=[helper], root=helper.parent)
    pack(answer, python=prefix.python, store=store)
    helper.write_text("import one\nvalue = 2\n")
    manifest = pack(answer, python=prefix.python, store=store, progress=events.append)
    assert {event.ref.name: event.built for event in events} == {"one": False, "local": True}
    assert run_python(store.materialise(manifest) / "bin" / "python", "import helper; print(helper.value)") == "2"


def test_an_edit_of_the_same_size_with_the_old_time_stamp_is_noticed(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    first = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    status = (prefix.site / "one.py").stat()
    (prefix.site / "one.py").write_text("value = 2\n")
    os.utime(prefix.site / "one.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pack(needs(("one", "1.0")), python=prefix.python, store=store).id != first.id


def test_links_to_files_of_a_packed_environment_are_no_edits(prefix, stores, needs) -> None:
    """An environment of a store is packed like any other; the next one of the same layers links to the same files."""
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n"})
    prefix.install("two", "1.0", {"two.py": "value = 2\n"})
    first, second = stores(), stores()
    environment = first.materialise(pack(needs(("one", "1.0")), python=prefix.python, store=first))
    built: list[bool] = []
    for others in ((), (("two", "1.0"),)):
        first.materialise(pack(needs(("one", "1.0"), *others), python=prefix.python, store=first))
        python = str(environment / "bin" / "python")
        pack(needs(("one", "1.0")), python=python, store=second, progress=lambda event: built.append(event.built))
    assert built == [True, False]


def test_the_same_content_gives_the_same_bytes_in_another_place(stores, needs, tmp_path: Path, prefix) -> None:
    other = type(prefix)(tmp_path / "elsewhere" / "in a longer folder" / "venv")
    answers = set()
    for place in (prefix, other):
        files = {"two/__init__.py": "def f(x):\n    return x in {'{', 'a'}\n", "two/a.py": "b = 1\n"}
        place.install("two", "1.0", files, compiled=place is other)
        store = stores()
        manifest = pack(needs(("two", "1.0")), python=place.python, store=store)
        answers.add((manifest.id, store.blob(manifest.layers[0].digest).read_bytes()))
    assert len(answers) == 1


def test_every_module_but_tests_comes_with_bytecode(prefix, store, needs) -> None:
    prefix.install(
        "one", "1.0", {"one/__init__.py": "", "one/a.py": "", "one/tests/test_a.py": "", "one/bad.py": "print 1"}
    )
    manifest = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    tag = sys.implementation.cache_tag
    compiled = {path for path in paths(store, manifest, "one") if path.endswith(".pyc")}
    assert compiled == {f"{SITE}/one/__pycache__/__init__.{tag}.pyc", f"{SITE}/one/__pycache__/a.{tag}.pyc"}


def test_bytecode_of_the_packed_environment_does_not_travel(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    (prefix.site / "__pycache__").mkdir()
    (prefix.site / "__pycache__" / "one.cpython-39.pyc").write_bytes(b"x")
    manifest = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    assert not any("cpython-39" in path for path in paths(store, manifest, "one"))


def test_namespace_packages_of_two_distributions_merge(prefix, store, needs, run_python) -> None:
    prefix.install("ns-a", "1.0", {"ns/a.py": "value = 'a'\n"})
    prefix.install("ns-b", "1.0", {"ns/b.py": "value = 'b'\n"})
    manifest = pack(needs(("ns-a", "1.0"), ("ns-b", "1.0")), python=prefix.python, store=store)
    python = store.materialise(manifest) / "bin" / "python"
    assert run_python(python, "import ns.a, ns.b; print(ns.a.value + ns.b.value)") == "ab"


def test_pth_files_of_distributions_keep_working(prefix, store, needs, run_python) -> None:
    prefix.install("one", "1.0", {"one.pth": "one_folder\n", "one_folder/hidden.py": "value = 7\n"})
    manifest = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    assert run_python(store.materialise(manifest) / "bin" / "python", "import hidden; print(hidden.value)") == "7"


def test_scripts_and_data_outside_of_site_packages_come_along(prefix, store, needs) -> None:
    script = f"#!{prefix.python}\nimport one\nprint(one.value)\n"
    prefix.install("one", "1.0", {"one.py": "value = 5\n", "../../../bin/one": script, "../../../share/one/d.txt": "d"})
    environment = store.materialise(pack(needs(("one", "1.0")), python=prefix.python, store=store))
    done = subprocess.run([environment / "bin" / "one"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "5\n"
    assert (environment / "share" / "one" / "d.txt").read_text() == "d"


def test_edited_and_missing_files_are_reported_each_time(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one/__init__.py": "", "one/a.py": "x = 1\n", "one/b.py": ""})
    (prefix.site / "one" / "a.py").write_text("x = 2\n")
    (prefix.site / "one" / "b.py").unlink()
    for built in (True, False):
        events: list[LayerEvent] = []
        pack(needs(("one", "1.0")), python=prefix.python, store=store, progress=events.append)
        assert events[0].built is built
        assert events[0].edited == (f"{SITE}/one/a.py",)
        assert events[0].missing == (str(prefix.site / "one" / "b.py"),)


def test_an_editable_installation_travels_with_its_source_tree(
    prefix, store, needs, tmp_path: Path, run_python
) -> None:
    project = tmp_path / "project"
    (project / "src" / "mine" / "deep").mkdir(parents=True)
    (project / "src" / "mine" / "__init__.py").write_text("value = 3\n")
    (project / "src" / "mine" / "deep" / "data.json").write_text("{}")
    (project / "src" / "mine" / ".git").mkdir()
    (project / "src" / "mine" / ".git" / "secret").write_text("")
    (project / "src" / "venv").mkdir()
    (project / "src" / "venv" / "pyvenv.cfg").write_text("")
    url = json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}})
    prefix.install("mine", "1.0", {"_mine.pth": f"{project}/src\n", "mine-1.0.dist-info/direct_url.json": url})
    manifest = pack(needs(("mine", "1.0")), python=prefix.python, store=store)
    assert manifest.layers[0].kind == "editable"
    held = paths(store, manifest, "mine")
    assert f"{SITE}/mine/deep/data.json" in held
    assert not any(".git" in path or "venv" in path or path.endswith(".pth") for path in held)
    shutil.rmtree(project)
    python = store.materialise(manifest) / "bin" / "python"
    assert run_python(python, "import mine; print(mine.value)") == "3"
    assert str(tmp_path) not in run_python(python, "import importlib.metadata as m; print(m.files('mine'))")


def test_an_editable_installation_is_one_like_others_in_its_pack(prefix, stores, needs, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("import json\n")
    script = tmp_path / "script.py"
    script.write_text("import mine\n")
    url = json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}})
    prefix.install("mine", "1.0", {"_mine.pth": f"{project}\n", "mine-1.0.dist-info/direct_url.json": url})
    first, second = stores(), stores()
    python = str(first.materialise(pack(needs(("mine", "1.0")), python=prefix.python, store=first)) / "bin" / "python")
    (found,) = analyze(script, python=python).distributions
    assert (found.name, found.role, found.source) == ("mine", "direct", "wheel")
    assert f"{SITE}/mine.py" in paths(second, pack(script, python=python, store=second), "mine")


def test_a_mapping_finder_travels_as_the_packages_that_it_maps(
    prefix, store, needs, tmp_path: Path, run_python
) -> None:
    project = tmp_path / "project"
    (project / "code").mkdir(parents=True)
    (project / "code" / "__init__.py").write_text("value = 4\n")
    url = json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}})
    finder = f"MAPPING: dict[str, str] = {{'mapped': '{project}/code'}}\ndef install():\n    pass\n"
    files = {
        "__editable__.mapped-1.0.pth": "import __editable___mapped_1_0_finder as f; f.install()\n",
        "__editable___mapped_1_0_finder.py": finder,
        "mapped-1.0.dist-info/direct_url.json": url,
    }
    prefix.install("mapped", "1.0", files)
    manifest = pack(needs(("mapped", "1.0")), python=prefix.python, store=store)
    assert run_python(store.materialise(manifest) / "bin" / "python", "import mapped; print(mapped.value)") == "4"


def test_a_distribution_without_record_is_packed_by_its_top_level_names(prefix, store, needs, run_python) -> None:
    prefix.install(
        "old", "1.0", {"old_code/__init__.py": "value = 6\n", "old-1.0.dist-info/top_level.txt": "old_code\n"}
    )
    (prefix.site / "old-1.0.dist-info" / "RECORD").unlink()
    manifest = pack(needs(("old", "1.0")), python=prefix.python, store=store)
    assert manifest.layers[0].kind == "system"
    python = store.materialise(manifest) / "bin" / "python"
    assert (
        run_python(python, "import old_code, importlib.metadata as m; print(old_code.value, m.version('old'))")
        == "6 1.0"
    )


def test_links_of_an_installer_are_packed_as_what_they_lead_to(
    prefix, store, needs, tmp_path: Path, run_python
) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 8\n"})
    shutil.move(prefix.site / "one.py", tmp_path / "cached.py")
    (prefix.site / "one.py").symlink_to(tmp_path / "cached.py")
    manifest = pack(needs(("one", "1.0")), python=prefix.python, store=store)
    (tmp_path / "cached.py").unlink()
    assert run_python(store.materialise(manifest) / "bin" / "python", "import one; print(one.value)") == "8"


def test_two_layers_with_different_content_at_one_path_are_a_conflict(prefix, store, needs, tmp_path: Path) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    (tmp_path / "project").mkdir()
    mine = tmp_path / "project" / "one.py"
    mine.write_text("value = 2\n")
    manifest = pack(needs(("one", "1.0"), files=[mine], root=mine.parent), python=prefix.python, store=store)
    with pytest.raises(LayerConflictError, match=r"local and one 1.0 both hold .*one\..*py"):
        store.materialise(manifest)
    assert not (store.folder / "environments").exists() or not list((store.folder / "environments").iterdir())


def test_two_layers_with_the_same_content_at_one_path_share_it(prefix, store, needs, run_python) -> None:
    prefix.install("one", "1.0", {"one.py": "", "shared/__init__.py": "value = 9\n"})
    prefix.install("two", "1.0", {"two.py": "", "shared/__init__.py": "value = 9\n"})
    manifest = pack(needs(("one", "1.0"), ("two", "1.0")), python=prefix.python, store=store)
    assert run_python(store.materialise(manifest) / "bin" / "python", "import shared; print(shared.value)") == "9"


def test_a_layer_cannot_replace_the_interpreter(prefix, store, needs) -> None:
    prefix.install("evil", "1.0", {"../../../bin/python3": "#!/bin/sh\n", "evil.py": ""})
    manifest = pack(needs(("evil", "1.0")), python=prefix.python, store=store)
    with pytest.raises(LayerConflictError, match="envpack and evil"):
        store.materialise(manifest)


@pytest.mark.parametrize(("name", "version"), [("absent", "1.0"), ("one", "2.0")])
def test_a_distribution_that_is_not_there_in_that_version_is_named(
    prefix, store, needs, name: str, version: str
) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    with pytest.raises(DistributionFilesError, match=f"{name!r} {version} expected"):
        pack(needs((name, version)), python=prefix.python, store=store)


def test_a_conda_distribution_is_refused_with_the_reason(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    (prefix.site / "one-1.0.dist-info" / "INSTALLER").write_text("conda\n")
    with pytest.raises(DistributionFilesError, match="installed by conda"):
        pack(needs(("one", "1.0")), python=prefix.python, store=store)


def test_a_file_outside_of_the_environment_is_refused(prefix, store, needs) -> None:
    prefix.install("one", "1.0", {"one.py": ""})
    with open(prefix.site / "one-1.0.dist-info" / "RECORD", "a") as record:
        record.write("/etc/hostname,,\n")
    with pytest.raises(DistributionFilesError, match="/etc/hostname"):
        pack(needs(("one", "1.0")), python=prefix.python, store=store)


def test_a_local_file_below_no_root_is_refused(store, needs, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    with pytest.raises(DistributionFilesError, match="below none of the folders"):
        pack(needs(files=[tmp_path / "a.py"], root=tmp_path / "elsewhere"), store=store)


def test_dependencies_of_another_python_are_refused(store, needs) -> None:
    with pytest.raises(IncompatiblePackError, match=r"found for Python 3\.8\.1"):
        pack(dataclasses.replace(needs(), python="3.8.1"), store=store)


def test_ready_dependencies_with_options_of_the_analysis_are_refused(store, needs) -> None:
    with pytest.raises(UsageError, match="given ready"):
        pack(needs(), exclude=["one"], store=store)


def test_a_function_is_packed_by_what_it_reaches(store, tmp_path: Path, run_python) -> None:
    (tmp_path / "helper.py").write_text("import json\nvalue = 11\n")
    script = tmp_path / "script.py"
    script.write_text("import helper\ndef one():\n    return helper.value\ndef two():\n    return 2\n")
    one = pack(f"{script}:one", store=store)
    two = pack(f"{script}:two", store=store)
    assert ([ref.name for ref in one.layers], [ref.name for ref in two.layers]) == (["local"], [])
    assert run_python(store.materialise(one) / "bin" / "python", "import helper; print(helper.value)") == "11"
    assert run_python(store.materialise(two) / "bin" / "python", "print(1)") == "1"


def test_the_package_is_the_function_whichever_was_imported_first() -> None:
    for order in (
        "import envpack.pack.store.store\nfrom envpack import analyze, pack",
        "from envpack import analyze, pack\nimport envpack.pack",
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{order}\nassert callable(pack)"], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


def test_numpy_runs_from_its_layer_and_from_nothing_else(store, needs, run_python) -> None:
    import numpy

    manifest = pack(needs(("numpy", numpy.__version__)), store=store)
    code = (
        "import numpy; print(numpy.linalg.det(numpy.eye(3)))\n"
        "print({line.split()[-1] for line in open('/proc/self/maps') if 'site-packages' in line})"
    )
    answer, mapped = run_python(store.materialise(manifest) / "bin" / "python", code).splitlines()
    assert answer == "1.0"
    assert str(store.folder) in mapped
    assert os.path.dirname(os.path.dirname(numpy.__file__)) not in mapped
