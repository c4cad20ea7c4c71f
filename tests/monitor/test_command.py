"""Commands as whole process trees, by both mechanisms."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envpack_monitor import CommandResult, Limits, run_command
from envpack_monitor.errors import CommandNotFoundError, FormatError, MechanismError
from envpack_monitor.trees.births import why_not
from envpack_monitor.trees.cgroup import POOL
from envpack_monitor.trees.order import Mechanism
from envpack_monitor.trees.tree import adopting_orphans, is_subreaper, peak_kib
from tests.monitor.helpers import MB, is_alive, wait_until

SPIKE = "import mmap; m = mmap.mmap(-1, {size})\nfor i in range(0, {size}, 4096): m[i] = 1\nm.close()"


def _cgroups_allowed() -> bool:
    try:
        POOL.give(POOL.take())
        return True
    except MechanismError:
        return False


needs_cgroup = pytest.mark.skipif(not _cgroups_allowed(), reason="this machine does not allow memory cgroups")
both = pytest.mark.parametrize("mechanism", [pytest.param("cgroup", marks=needs_cgroup), "proc"])


def python(program: str, mechanism: Mechanism, **options: object) -> CommandResult:
    return run_command([sys.executable, "-c", program], mechanism=mechanism, **options)  # type: ignore[arg-type]


def peak(result: CommandResult) -> int:
    assert result.usage.peak_memory_bytes is not None
    return result.usage.peak_memory_bytes


@both
@pytest.mark.parametrize("ballast_bytes", [0, 300 * MB], ids=["small", "large"])
def test_spike_of_a_command_is_exact_however_large_this_process_is(mechanism: Mechanism, ballast_bytes: int) -> None:
    ballast = bytearray(ballast_bytes)
    # A command begins as a copy of this process: what is smaller than that, /proc alone cannot tell from it.
    begin = peak_kib(os.getpid()) * 1024 if mechanism == "proc" else 0
    small, large = (python(SPIKE.format(size=begin + more), mechanism) for more in (50 * MB, 250 * MB))
    for result in (small, large):
        assert (result.exit_code, result.mechanism) == (0, mechanism)
        assert result.usage.quality_of("peak_memory_bytes") == "exact"
    # Two runs of an interpreter differ by some hundred kilobytes themselves.
    assert abs(peak(large) - peak(small) - 200 * MB) < (2 * MB if mechanism == "cgroup" else 8 * MB)
    assert len(ballast) == ballast_bytes


@needs_cgroup
def test_peak_of_a_tree_of_short_children_is_exact_with_a_cgroup() -> None:
    base = python("import subprocess, mmap", "cgroup")
    spikes = "\n".join(["subprocess.run([sys.executable, '-c', spike])"] * 5)
    program = f"import subprocess, sys, mmap\nspike = {SPIKE.format(size=60 * MB)!r}\n{spikes}"
    result = python(program, "cgroup")
    child = python("import mmap", "cgroup")
    assert abs(peak(result) - peak(base) - peak(child) - 60 * MB) < 2 * MB
    assert result.usage.quality_of("peak_memory_bytes") == "exact"


def test_peak_of_a_tree_without_a_cgroup_is_said_to_be_bounded_or_sampled() -> None:
    result = python("import subprocess; subprocess.run(['true'])", "proc")
    assert result.usage.quality_of("peak_memory_bytes").partition("(")[0] == "sampled" if why_not() else "upper bound"


@both
def test_cpu_of_all_descendants_counts(mechanism: Mechanism) -> None:
    burn = "import time\nwhile time.process_time() < 0.15: pass"
    program = f"import subprocess, sys\nfor _ in range(2): subprocess.run([sys.executable, '-c', {burn!r}])"
    result = python(program, mechanism)
    assert 0.3 <= (result.usage.cpu_s or 0) < 0.9


@both
def test_limits_kill_the_whole_tree_daemons_included(mechanism: Mechanism, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"echo $$ >> {pids}; (setsid sh -c 'echo $$ >> {pids}; exec sleep 600' &) ; sleep 600"
    result = run_command(["sh", "-c", script], limits=Limits(wall_s=0.5), mechanism=mechanism)
    assert result.error is not None
    assert (result.error.resource, result.error.category) == ("wall", "sh")
    assert 0.5 < result.usage.wall_s < 60
    assert result.usage.limit_exceeded == "wall"
    numbers = [int(word) for word in pids.read_text().split()]
    assert len(numbers) == 2
    wait_until(lambda: not any(map(is_alive, numbers)), "no survivor")


@both
def test_memory_limit_ends_a_command_that_grows(mechanism: Mechanism) -> None:
    program = "import time\nkept = []\nwhile True: kept.append(bytearray(b'x' * 5_000_000)); time.sleep(0.002)"
    result = python(program, mechanism, limits=Limits(memory_bytes=100 * MB))
    assert result.error is not None
    assert result.error.resource == "memory"
    assert result.error.measured >= 99 * MB
    assert result.exit_code == -9


@both
def test_spike_too_short_to_catch_exceeds_the_limit_too(mechanism: Mechanism) -> None:
    result = python(SPIKE.format(size=150 * MB), mechanism, limits=Limits(memory_bytes=100 * MB))
    assert result.error is not None
    assert result.error.resource == "memory"


@both
def test_process_and_cpu_limits_are_kept(mechanism: Mechanism) -> None:
    script = "for i in 1 2 3 4 5 6; do sleep 600 & done; wait"
    many = run_command(["sh", "-c", script], limits=Limits(processes=4), mechanism=mechanism)
    busy = run_command(["sh", "-c", "while :; do :; done"], limits=Limits(cpu_s=0.2), mechanism=mechanism)
    assert [result.error and result.error.resource for result in (many, busy)] == ["processes", "cpu"]


def test_disk_limit_is_the_growth_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 3 * MB)
    script = f"head -c 5000000 /dev/zero > {tmp_path}/new"
    result = run_command(["sh", "-c", script], limits=Limits(disk_bytes=4 * MB), folder=tmp_path)
    assert result.error is not None
    assert result.error.resource == "disk"
    assert 4 * MB < (result.usage.disk_bytes or 0) < 5.2 * MB  # it may have been ended before its last bytes
    with pytest.raises(FormatError, match="disk needs a folder"):
        run_command(["true"], limits=Limits(disk_bytes=1))


@both
def test_what_a_command_leaves_behind_is_killed_and_counted(mechanism: Mechanism, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; exit 3"
    result = run_command(["sh", "-c", script], mechanism=mechanism)
    assert (result.exit_code, result.left_behind) == (3, 1)
    assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("mechanism", ["auto", "proc"])
def test_whole_tree_ends_when_the_command_line_is_told_to_stop(
    number: signal.Signals, mechanism: str, tmp_path: Path
) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec sleep 600' & wait"
    command = [sys.executable, "-m", "envpack", "monitor", "--mechanism", mechanism, "--", "sh", "-c", script]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"), "it runs")
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert not is_alive(int((tmp_path / "pid").read_text()))


@both
def test_signal_exit_status_and_bytes_are_reported(mechanism: Mechanism, tmp_path: Path) -> None:
    killed = run_command(["sh", "-c", "kill -9 $$"], mechanism=mechanism)
    failed = run_command(["sh", "-c", f"head -c 70000 /dev/zero > {tmp_path}/f; exit 4"], mechanism=mechanism)
    assert (killed.exit_code, killed.usage.signal) == (-9, 9)
    assert (failed.exit_code, failed.usage.exit_status) == (4, 4)
    assert failed.usage.bytes_written == 70_000


def test_command_that_does_not_exist_or_may_not_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(CommandNotFoundError, match="'nonesuch': No such file"):
        run_command(["nonesuch"])
    with pytest.raises(CommandNotFoundError, match="Permission denied"):
        run_command([tmp_path / "text"])
    with pytest.raises(CommandNotFoundError, match="no such folder to run in"):
        run_command(["true"], cwd=tmp_path / "none")


@needs_cgroup
def test_group_is_used_again_and_none_is_left() -> None:
    run_command(["true"], mechanism="cgroup")
    group = POOL.take()
    run_command(["true"], mechanism="cgroup")
    POOL.give(group)
    mine = f"{group.folder.name.rsplit('-', 1)[0]}-*"
    assert len(list(group.folder.parent.glob(mine))) == 2
    assert POOL.take() is group
    POOL.give(group)
    POOL.clear()
    # Those of this process: another run of the tests may have its own beside them.
    assert f"-{os.getpid()}-" in group.folder.name
    assert list(group.folder.parent.glob(mine)) == []


def test_who_says_that_it_is_alone_and_is_not_loses_no_other_child() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert run_command(["true"], is_alone=True, history=False).left_behind == 0
        assert other.poll() is None


def test_who_supervises_alone_adopts_orphans_no_longer_than_that() -> None:
    assert not is_subreaper()
    assert run_command(["true"], is_alone=True, history=False).exit_code == 0
    assert not is_subreaper()
    with adopting_orphans():
        assert is_subreaper()
    assert not is_subreaper()
