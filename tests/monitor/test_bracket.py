"""The bracket: exact peaks, nesting, threads, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from envpack_monitor.calls import bracket as bracket_module
from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.usage import Usage
from tests.monitor.helpers import MB, touch

TOLERANCE = 1 * MB


def rise(figures: dict[str, float | int | str]) -> int:
    usage = Usage.from_dict(figures)
    assert usage.memory_difference_bytes is not None
    return usage.memory_difference_bytes


@pytest.mark.parametrize("size_mb", [200, 50])
def test_spike_of_some_milliseconds_is_measured_within_one_megabyte(size_mb: int) -> None:
    bracket = Bracket()
    for _ in range(3):
        bracket.start()
        touch(size_mb * MB)
        figures = bracket.stop()
        assert figures["quality"] == "exact"
        assert abs(rise(figures) - size_mb * MB) < TOLERANCE


def test_peak_is_exact_below_the_peak_of_the_program_before_exec() -> None:
    """A child of a fat parent inherits its `ru_maxrss`; what it says of itself must not."""
    program = (
        "from envpack_monitor.calls.bracket import Bracket\n"
        "from tests.monitor.helpers import touch\n"
        "b = Bracket(); b.start(); b.stop(); b.start(); touch(30_000_000); f = b.stop()\n"
        "print(f['peak_memory_bytes'] - f['memory_before_bytes'], f['peak_memory_bytes'], f['quality'])"
    )
    fat = touch(300 * MB)
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", program]
    text = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True).stdout
    assert len(fat) == 300 * MB
    difference, peak, quality = text.split(maxsplit=2)
    assert quality.strip() == "exact"
    assert abs(int(difference) - 30 * MB) < TOLERANCE
    assert int(peak) < 100 * MB


def test_inner_bracket_does_not_hide_the_peak_of_the_outer_one() -> None:
    outer, inner = Bracket(), Bracket()
    outer.start()
    touch(100 * MB)
    inner.start()
    touch(40 * MB)
    inner_figures = inner.stop()
    outer_figures = outer.stop()
    assert abs(rise(inner_figures) - 40 * MB) < TOLERANCE
    assert abs(rise(outer_figures) - 100 * MB) < TOLERANCE
    assert outer_figures["quality"] == inner_figures["quality"] == "exact"


def test_brackets_of_two_threads_that_overlap_are_upper_bounds() -> None:
    in_thread, go_on = threading.Event(), threading.Event()
    found: list[dict[str, float | int | str]] = []

    def work() -> None:
        bracket = Bracket()
        bracket.start()
        in_thread.set()
        go_on.wait(10)
        found.append(bracket.stop())

    thread = threading.Thread(target=work)
    thread.start()
    in_thread.wait(10)
    bracket = Bracket()
    bracket.start()
    touch(50 * MB)
    own = bracket.stop()
    go_on.set()
    thread.join()
    assert rise(found[0]) > 49 * MB
    for figures in (own, found[0]):
        usage = Usage.from_dict(figures)
        assert usage.quality_of("peak_memory_bytes") == "upper bound"
        assert usage.quality_of("wall_s") == "exact"


def test_bracket_of_a_forked_child_measures_the_child() -> None:
    Bracket().start()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        bracket = Bracket()
        bracket.start()
        touch(60 * MB)
        os.write(write_end, str(rise(bracket.stop())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert abs(int(os.read(read_end, 100)) - 60 * MB) < TOLERANCE
    os.close(read_end)
    os.close(write_end)


def test_bracket_around_a_fork_says_in_the_child_only_what_is_true() -> None:
    bracket = Bracket()
    bracket.start()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, ",".join(sorted(bracket.stop())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read_end, 1000) == b"quality,started_at,wall_s"
    assert "peak_memory_bytes" in bracket.stop()
    os.close(read_end)
    os.close(write_end)


def test_cpu_and_wall_are_those_of_the_work() -> None:
    bracket = Bracket()
    bracket.start()
    start = time.process_time()
    while time.process_time() - start < 0.1:
        pass
    usage = Usage.from_dict(bracket.stop())
    assert usage.cpu_s == pytest.approx(0.1, rel=0.1)
    assert usage.wall_s >= 0.099


def test_bytes_read_and_written_are_counted_without_the_measuring_itself(tmp_path: Path) -> None:
    bracket = Bracket()
    bracket.start()
    nothing = bracket.stop()
    bracket.start()
    (tmp_path / "file").write_bytes(b"x" * 12_345)
    (tmp_path / "file").read_bytes()
    figures = bracket.stop()
    assert (nothing["bytes_read"], nothing["bytes_written"]) == (0, 0)
    assert (figures["bytes_read"], figures["bytes_written"]) == (12_345, 12_345)


def test_memory_of_children_makes_the_peak_a_lower_bound() -> None:
    bracket = Bracket()
    bracket.start()
    subprocess.run(["true"], check=True)
    usage = Usage.from_dict(bracket.stop())
    assert usage.quality_of("peak_memory_bytes") == "lower bound"


def test_bracket_and_its_counters_stand_alone() -> None:
    """Their texts are sent to processes that have nothing but the standard library."""
    program = "import sys\n"
    for module in ("counters", "bracket"):
        path = Path(bracket_module.__file__).with_name(f"{module}.py")
        program += f"m = sys.modules['envpack_monitor.calls.{module}'] = type(sys)('m')\n"
        program += f"exec(open({str(path)!r}).read(), m.__dict__)\n"
    program += "b = m.Bracket(); b.start(); print(b.stop()['quality'], 'envpack_monitor' in sys.modules)"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["exact", "False"]


def test_bracket_goes_on_when_the_program_closes_all_descriptors(tmp_path: Path) -> None:
    program = (
        "import os; from envpack_monitor.calls.bracket import Bracket; from tests.monitor.helpers import touch\n"
        "b = Bracket(); b.start(); b.stop(); os.closerange(3, 2000)\n"
        f"files = [open({str(tmp_path)!r} + '/' + str(n), 'w') for n in range(50)]\n"
        "b.start(); touch(30_000_000); f = b.stop(); [file.close() for file in files]\n"
        "print(f['quality'], f['peak_memory_bytes'] - f['memory_before_bytes'])"
    )
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", program]
    text = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True).stdout
    assert text.split()[0] == "exact"
    assert abs(int(text.split()[1]) - 30 * MB) < TOLERANCE
    assert {file.read_bytes() for file in tmp_path.glob("[0-9]*")} == {b""}
