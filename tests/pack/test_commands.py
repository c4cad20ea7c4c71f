"""The commands pack, unpack, inspect and store, as a user types them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.commands.options import AGE, SIZE, Quantity
from envpack.commands.output import age_text, size_text
from envpack.pack import Store


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("value = 21\n")
    (tmp_path / "script.py").write_text(
        "import helper\ndef one():\n    return helper.value\ndef two():\n    return 2\n"
    )
    return tmp_path / "script.py"


def test_pack_unpack_and_run(script: Path, capsys, tmp_path: Path) -> None:
    assert main(["pack", "script.py:one", "-o", "one.tar.zst"]) == 0
    first = capsys.readouterr()
    assert "1 built, 0 reused" in first.out
    assert first.err == ""
    assert main(["pack", "script.py:one"]) == 0
    assert "0 built, 1 reused" in capsys.readouterr().out
    assert main(["unpack", "one.tar.zst", "dir"]) == 0
    assert capsys.readouterr().out.startswith("dir/bin/python: 1 layers, 2 files, ")
    code = "import helper; print(helper.value)"
    assert subprocess.run(["dir/bin/python", "-c", code], capture_output=True, timeout=60).stdout == b"21\n"


def test_json_of_pack_inspect_and_store_agree(script: Path, capsys) -> None:
    assert main(["pack", "script.py:one", "script.py:two", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    one, two = answer["environments"]
    assert (one["built"], two["built"], len(one["layers"]), len(two["layers"])) == (1, 0, 1, 0)
    assert main(["inspect", one["id"][:10], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"] == one["manifest"]
    assert shown["layers"][0]["blob_bytes"] == one["layers"][0]["blob_bytes"]
    assert main(["store", "ls", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert {item["id"] for item in held["environments"]} == {one["id"], two["id"]}
    assert [item["digest"] for item in held["layers"]] == [one["layers"][0]["digest"]]


def test_inspect_shows_the_layers_of_a_file(script: Path, capsys) -> None:
    main(["pack", "script.py:one", "-o", "one.tar.zst"])
    packed = capsys.readouterr().out
    assert main(["inspect", "one.tar.zst"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == packed.splitlines()[-3]
    assert "local" in shown


def test_store_tells_why_a_layer_is_there_and_that_it_is_whole(script: Path, capsys, tmp_path: Path) -> None:
    main(["pack", "script.py:one"])
    id = capsys.readouterr().out.split()[-1]
    assert main(["store", "why", "local"]) == 0
    assert id in capsys.readouterr().out
    assert main(["store", "why", "local", "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert (layer["name"], layer["environments"]) == ("local", [id])
    assert abs(layer["last_used_s"] - time.time()) < 3600
    assert main(["store", "ls"]) == 0
    assert capsys.readouterr().out.count("just now") == 2
    assert main(["store", "why", "absent"]) == 2
    assert main(["store", "verify"]) == 0
    assert capsys.readouterr().out == "1 layer files, 0 layers, 0 environments verified, 0 damaged\n"
    (blob,) = (tmp_path / "store" / "blobs").iterdir()
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1])
    assert main(["store", "verify"]) == 1
    said = capsys.readouterr()
    assert "1 damaged" in said.out
    assert said.out.startswith("layer file local (")
    assert "is truncated" in said.out
    assert "--repair" in said.err
    assert main(["store", "verify", "--repair"]) == 1
    assert "stays: a process uses it" in capsys.readouterr().err
    Store(tmp_path / "store").release()
    assert main(["store", "verify", "--repair"]) == 0
    assert capsys.readouterr().out.endswith("1 removed\n")
    assert main(["pack", "script.py:one"]) == 0
    assert main(["store", "verify"]) == 0


def test_gc_says_what_goes_and_that_it_is_enough(script: Path, capsys, tmp_path: Path) -> None:
    main(["pack", "script.py:one", "script.py:two"])
    Store(tmp_path / "store").release()  # this process, which has packed
    capsys.readouterr()
    assert main(["store", "gc", "--max-size", "0", "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "layer file  local" in planned
    assert "would be freed, 0 B left" in planned
    assert main(["store", "gc", "--older-than", "12h", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []
    assert main(["store", "gc", "--max-size", "0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["after_bytes"], answer["in_use"]) == (0, [])
    assert {item["kind"] for item in answer["removed"]} == {"manifest", "file"}


def test_gc_that_cannot_make_the_store_small_enough_ends_with_1(script: Path, capsys, tmp_path: Path) -> None:
    main(["pack", "script.py:one"])
    assert main(["store", "gc", "--max-size", "1kB"]) == 1
    assert "still larger than 1.0 kB: the rest is in use" in capsys.readouterr().err
    Store(tmp_path / "store").release()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither a size nor an age is given"),
        (["--max-size", "20 gigs"], "'20 gigs' met, a size such as 20GB"),
        (["--max-size", "-1"], "'-1' met, a size such as 20GB"),
        (["--older-than", "30"], "'30' met, an age such as 30d, 12h"),
    ],
)
def test_sizes_and_ages_that_are_none_are_wrong_usage(words: list[str], said: str, script: Path, capsys) -> None:
    assert main(["store", "gc", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (SIZE, "20GB", 20e9),
        (SIZE, "512 MiB", 512 * 2**20),
        (SIZE, "1000", 1000.0),
        (SIZE, "1.5k", 1500.0),
        (AGE, "30d", 30 * 86400.0),
        (AGE, "12h", 43200.0),
        (AGE, "90min", 5400.0),
        (AGE, ".5 w", 302400.0),
    ],
)
def test_sizes_and_ages_are_read_as_people_write_them(kind: Quantity, text: str, value: float) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("age_s", "text"), [(0, "just now"), (61, "1 min ago"), (7200, "2 h ago"), (12.5 * 86400, "12 d ago")]
)
def test_ages_are_written_as_people_read_them(age_s: float, text: str) -> None:
    assert age_text(time.time() - age_s) == text


def test_edited_and_missing_files_are_noted_one_by_one_until_they_are_accepted(prefix, script: Path, capsys) -> None:
    prefix.install("one", "1.0", {"one.py": "value = 1\n"})
    (prefix.site / "one.py").write_text("value = 2\n")
    script.write_text("import one\n")
    assert main(["pack", "script.py", "--python", prefix.python]) == 0
    files = {f"part{number}.py": "" for number in range(60)}
    prefix.install("two", "1.0", files)
    for file in files:
        (prefix.site / file).unlink()
    script.write_text("import one, part0\n")
    assert main(["pack", "script.py", "--python", prefix.python, "--include", "two", "--map", "part0=two"]) == 0
    told = capsys.readouterr().err.splitlines()
    site = f"lib/{prefix.site.parent.name}/site-packages"
    assert "envpack: warning: one 1.0: not as in RECORD, packed as they are: 1 files:" in told
    assert f"  {site}/one.py" in told
    assert "envpack: warning: two 1.0: in RECORD, not on disk: 60 files:" in told
    assert f"  {prefix.site}/part11.py" in told
    assert "  ... and 10 more" in told
    assert "envpack: install these anew, or say --accept-edited where it is meant so" in told
    assert main(["pack", "script.py", "--python", prefix.python, "--map", "part0=two", "--accept-edited"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pack", "absent.py"], 2, "absent.py"),
        (["pack", "script.py:absent"], 2, "absent"),
        (["pack", "script.py", "script.py:one", "-o", "x"], 2, "2 targets and one output file"),
        (["pack", "script.py", "-o", "no/such/folder/x.tgz"], 2, "no such folder"),
        (["pack", "broken.py"], 1, "broken.py:1"),
        (["pack", "wants.py"], 1, "surely_not_installed"),
        (["unpack", "script.py", "dir"], 1, "not a pack"),
        (["unpack", "absent", "dir"], 2, "cannot read pack"),
        (["inspect", "0123"], 2, "no environment '0123'"),
        (["inspect", "script.py"], 1, "not a pack"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    words: list[str], code: int, said: str, script: Path, capsys
) -> None:
    script.with_name("broken.py").write_text("def f(:\n")
    script.with_name("wants.py").write_text("import surely_not_installed\n")
    assert main(words) == code
    error = capsys.readouterr().err
    assert error.startswith("envpack: error: ")
    assert said in error
    assert not script.with_name("dir").exists()


def test_commands_are_cheap_to_import() -> None:
    code = (
        "import sys, envpack.commands.pack, envpack.commands.unpack, envpack.commands.inspect, envpack.commands.store\n"
        "print({'rich', 'zstandard', 'packaging', 'envpack.pack', 'envpack.discover'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_960, "100 kB"), (128_590_124, "129 MB")]
)
def test_sizes_are_written_as_people_read_them(size: int, text: str) -> None:
    assert size_text(size) == text
