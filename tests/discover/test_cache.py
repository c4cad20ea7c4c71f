"""What is kept of environments between processes is never wrong, never half there and never in the way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack import analyze
from envpack.discover.environment import cache, folders
from envpack.discover.environment.distributions import DistributionIndex
from envpack.discover.environment.interpreter import inspect_interpreter
from tests.discover.conftest import Environment, Project, roles

Versions = dict[str, str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache that is still empty."""
    monkeypatch.setenv("ENVPACK_INDEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "_memory", {})
    return tmp_path / "cache"


@pytest.fixture
def site(environment: Environment) -> Environment:
    environment.install("alpha", files=("alpha/__init__.py",), requires=("beta",))
    environment.install("beta", "2.0", files=("beta.py",))
    return environment


def versions(site: Environment) -> Versions:
    """Return what another process that starts now would find."""
    folders._memory.clear()
    return {item.name: item.version for item in DistributionIndex([str(site.site)])}


def kept(home: Path, kind: str) -> list[Path]:
    return sorted(home.glob(f"{kind}-*")) if home.exists() else []


def until(is_so: Callable[[], bool]) -> None:
    """Ask again until it is so: what was written a moment ago is not trusted yet."""
    for _ in range(400):
        if is_so():
            return
        os.sched_yield()
        subprocess.run(["/bin/true"], check=True)
    raise AssertionError("not within 400 attempts")


def settle(home: Path, site: Environment) -> None:
    """Ask until all of the environment is kept."""

    def is_kept() -> bool:
        versions(site)
        before, _, rows = cache.load("folder", str(site.site)) or (None, (), {})
        return before is not None and len(rows) == sum(1 for _ in site.site.glob("*.*-info"))

    until(is_kept)


def test_known_environment_is_not_read_again(home: Path, site: Environment) -> None:
    settle(home, site)
    opened = "import sys; sys.addaudithook(lambda event, args: event == 'open' and print(args[0]))"
    module = "envpack.discover.environment.distributions"
    index = f"from {module} import DistributionIndex; DistributionIndex([{str(site.site)!r}])"
    answer = subprocess.run([sys.executable, "-c", f"{opened}; {index}"], capture_output=True, text=True, check=True)
    assert str(kept(home, "folder")[0]) in answer.stdout.split()
    assert ".dist-info" not in answer.stdout


def test_new_removed_and_replaced_distributions_are_seen(home: Path, site: Environment) -> None:
    settle(home, site)
    site.install("gamma", "3.0")
    assert versions(site) == {"alpha": "1.0", "beta": "2.0", "gamma": "3.0"}
    shutil.rmtree(site.site / "beta-2.0.dist-info")
    assert versions(site) == {"alpha": "1.0", "gamma": "3.0"}
    shutil.rmtree(site.site / "alpha-1.0.dist-info")
    site.install("alpha", "1.1")
    assert versions(site) == {"alpha": "1.1", "gamma": "3.0"}


CHANGES: dict[str, Callable[[Path], None]] = {
    "longer": lambda file: file.write_text("Name: alpha\nVersion: 1.0.1\n"),
    "same size": lambda file: file.write_text(file.read_text().replace("Version: 1.0", "Version: 9.9")),
}


def set_back(file: Path) -> None:
    """Change a file and give it back its time, as tools that keep times do."""
    before = file.stat()
    CHANGES["same size"](file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_rename(file: Path) -> None:
    beside = file.with_name("new")
    beside.write_text(file.read_text().replace("Version: 1.0", "Version: 9.9"))
    os.replace(beside, file)


@pytest.mark.parametrize("change", [*CHANGES.values(), set_back, replace_by_rename])
def test_metadata_that_changes_in_place_is_seen(home: Path, site: Environment, change: Callable[[Path], None]) -> None:
    settle(home, site)
    change(site.site / "alpha-1.0.dist-info" / "METADATA")
    assert versions(site)["alpha"] != "1.0"


def test_changes_in_quick_succession_are_all_seen(home: Path, site: Environment) -> None:
    metadata = site.site / "alpha-1.0.dist-info" / "METADATA"
    for number in range(200):
        metadata.write_text(f"Name: alpha\nVersion: {number:03}\n")
        assert versions(site)["alpha"] == f"{number:03}"


def test_record_that_changes_in_place_is_seen(home: Path, site: Environment, project: Project) -> None:
    script = project({"main.py": "import other"})
    (site.site / "other.py").touch()
    settle(home, site)
    assert roles(analyze(script, python=site.python)) == {}
    with open(site.site / "beta-2.0.dist-info" / "RECORD", "a") as file:
        file.write("other.py,,\n")
    assert roles(analyze(script, python=site.python)) == {"beta": "direct"}


def test_start_file_that_changes_in_place_is_seen(
    home: Path, site: Environment, project: Project, tmp_path: Path
) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "dev").mkdir(parents=True)
    (tmp_path / "two" / "dev" / "__init__.py").touch()
    starter = site.site / "dev.pth"
    starter.write_text(f"{tmp_path / 'one'}\n")
    url = '{"url": "file:///dev", "dir_info": {"editable": true}}'
    site.install("dev-pkg", files=("dev.pth",), extra_metadata={"direct_url.json": url})
    script = project({"main.py": "import dev"})
    until(lambda: bool(kept(home, "interpreter")) or roles(analyze(script, python=site.python)) == {"x": "y"})
    settle(home, site)
    assert roles(analyze(script, python=site.python)) == {}
    starter.write_text(f"{tmp_path / 'two'}\n")
    assert str(tmp_path / "two") in inspect_interpreter(site.python).sys_path
    assert roles(analyze(script, python=site.python)) == {"dev-pkg": "direct"}


def test_interpreter_is_asked_once(home: Path, site: Environment) -> None:
    until(lambda: bool(inspect_interpreter(site.python)) and bool(kept(home, "interpreter")))
    before = kept(home, "interpreter")[0].stat().st_mtime_ns
    again = inspect_interpreter(site.python)
    assert again.purelib == str(site.site)
    assert [file.stat().st_mtime_ns for file in kept(home, "interpreter")] == [before]


def test_what_decides_how_an_interpreter_starts_is_looked_at(
    home: Path, site: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_searched(folder: Path) -> bool:
        return str(folder) in inspect_interpreter(site.python).sys_path

    more = tmp_path / "more"
    (site.site / "more.pth").write_text(f"{more}\n")
    until(lambda: not is_searched(more) and bool(kept(home, "interpreter")))
    more.mkdir()
    assert is_searched(more), "a folder that a .pth file names came into being"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "extra"))
    assert is_searched(tmp_path / "extra")
    (site.site / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(tmp_path / 'custom')!r})")
    assert is_searched(tmp_path / "custom")
    (Path(site.python).parent.parent / "pyvenv.cfg").write_text("home = /\ninclude-system-site-packages = true\n")
    base = Path(sys.base_prefix) / "bin" / "python3"
    (Path(site.python).parent.parent / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = true\n"
    )
    found = inspect_interpreter(site.python).sys_path
    assert any(path.endswith("-packages") and not path.startswith(str(site.site)) for path in found)


def test_script_that_picks_an_interpreter_is_asked_each_time(
    home: Path, site: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nexec "${{PICKED:-{sys.executable}}}" "$@"\n')
    shim.chmod(0o755)
    first = inspect_interpreter(shim).executable
    monkeypatch.setenv("PICKED", site.python)
    assert (first, inspect_interpreter(shim).executable) == (sys.executable, site.python)
    assert kept(home, "interpreter") == []


def lengths(size: int) -> Iterator[int]:
    yield from range(min(size, 64))
    yield from range(64, size, max(1, size // 100))
    yield size - 1


def test_entry_cut_anywhere_counts_as_absent(home: Path, site: Environment) -> None:
    settle(home, site)
    entry = kept(home, "folder")[0]
    whole = entry.read_bytes()
    for length in lengths(len(whole)):
        entry.write_bytes(whole[:length])
        assert cache.load("folder", str(site.site)) is None
        assert versions(site) == {"alpha": "1.0", "beta": "2.0"}


@pytest.mark.parametrize("position", [0, 9, 30, 40, 100, -1])
def test_entry_with_another_byte_counts_as_absent(home: Path, site: Environment, position: int) -> None:
    settle(home, site)
    entry = kept(home, "folder")[0]
    content = bytearray(entry.read_bytes())
    content[position] ^= 0x55
    entry.write_bytes(content)
    assert cache.load("folder", str(site.site)) is None
    assert versions(site) == {"alpha": "1.0", "beta": "2.0"}


def test_entry_of_another_format_counts_as_absent(home: Path, site: Environment) -> None:
    settle(home, site)
    entry = kept(home, "folder")[0]
    entry.write_bytes(re.sub(rb"index \d+", b"index 0", entry.read_bytes(), count=1))
    assert cache.load("folder", str(site.site)) is None
    assert versions(site) == {"alpha": "1.0", "beta": "2.0"}


def test_entry_of_another_key_is_not_taken_for_ours(home: Path) -> None:
    cache.save("folder", "one", 1)
    shutil.copy(kept(home, "folder")[0], cache._path("folder", "two"))
    assert (cache.load("folder", "one"), cache.load("folder", "two")) == (1, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_entry_of_another_user_counts_as_absent(home: Path) -> None:
    cache.save("folder", "one", 1)
    os.chown(kept(home, "folder")[0], 12345, 12345)
    assert cache.load("folder", "one") is None


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", ""])
def test_cache_that_cannot_be_written_is_no_error(
    place: str, site: Environment, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVPACK_INDEX_CACHE", place)
    for _ in range(2):
        found = analyze(project({"main.py": "import alpha"}), python=site.python)
        assert [item.name for item in found.distributions] == ["alpha", "beta"]


def test_full_disk_leaves_no_half_of_an_entry(home: Path, site: Environment) -> None:
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))\n"
        "from envpack.discover.environment.distributions import DistributionIndex\n"
        f"print(*sorted(item.name for item in DistributionIndex([{str(site.site)!r}])))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (answer.stdout.split(), answer.stderr) == (["alpha", "beta"], "")
    assert list(home.glob("*")) == []


def test_many_processes_at_once_see_whole_entries(home: Path, site: Environment, tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from envpack.discover.environment import cache, folders\n"
        "from envpack.discover.environment.distributions import DistributionIndex\n"
        "for number in range(60):\n"
        "    folders._memory.clear()\n"
        "    if number % 3 == int(sys.argv[1]) % 3:\n"
        "        cache.save('folder', sys.argv[2], (None, (), {}))\n"
        "    cache.save('other', 'key', ['x' * 50_000, number])\n"
        "    value = cache.load('other', 'key')\n"
        "    assert value is not None and len(value[0]) == 50_000, value\n"
        "    found = {item.name: item.version for item in DistributionIndex([sys.argv[2]])}\n"
        "    assert found == {'alpha': '1.0', 'beta': '2.0'}, found\n"
    )
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen([*command, str(number), str(site.site)], stderr=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    said = [process.communicate(timeout=60)[1] for process in running]
    assert said == [""] * 6
    assert list(home.glob("*.tmp")) == []


def test_number_and_age_of_entries_are_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_ENTRIES", 5)
    cache.save("old", "x", 1)
    left = home / "folder-x.0123.tmp"
    left.touch()
    for file in (kept(home, "old")[0], left):
        os.utime(file, (1, 1))
    for number in range(12):
        cache.save("folder", str(number), number)
    assert (kept(home, "old"), left.exists()) == ([], False)
    assert len(list(home.iterdir())) == 5
    assert cache.load("folder", "11") == 11


def test_use_keeps_an_entry_young(home: Path) -> None:
    cache.save("folder", "x", 1)
    entry = kept(home, "folder")[0]
    os.utime(entry, (1, 1))
    assert cache.load("folder", "x") == 1
    assert entry.stat().st_mtime > 1e9


def test_cache_lies_beside_the_store_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from envpack.settings import index_cache_folder, store_folder

    monkeypatch.delenv("ENVPACK_INDEX_CACHE", raising=False)
    monkeypatch.delenv("ENVPACK_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert index_cache_folder() == str(tmp_path / "envpack-index") == f"{store_folder()}-index"
    monkeypatch.setenv("ENVPACK_INDEX_CACHE", "~/here")
    assert index_cache_folder() == os.path.expanduser("~/here")
