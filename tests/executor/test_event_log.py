"""The event log: every transition is there, in order, and nothing waits for the disk."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, task
from envpack_executor.errors import EventLogError
from envpack_executor.linewriter import LineWriter
from envpack_executor.manager import events
from envpack_executor.manager.events import CallsQueued, CancelRequested, NodeLost, ProcessReady, ResultsArrived
from envpack_executor.manager.journal import Journal
from envpack_executor.manager.state import Call
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, wait_until
from tests.executor.test_manager_reactor import HERE, Manager, make_context


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_call(lines: list[dict[str, Any]], call: int) -> list[str]:
    return [line["event"].removeprefix("call ") for line in lines if line.get("call") == call]


class Told(Manager):
    """A manager with a journal."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.journal: Journal | None = None
        super().__init__(**options)
        self.journal = Journal("1-0", self.state, lambda: 1000.5, self.lines.append)

    def handle(self, event: events.Event) -> list[events.Instruction]:
        instructions = super().handle(event)
        if self.journal is not None:
            self.journal.note(event, [*self.requeued, *instructions])
        return instructions

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in "".join(self.lines).splitlines()]


def test_the_way_of_a_call_is_written_down_step_by_step() -> None:
    world, context = Told(), make_context()
    [call], [start] = world.queue(context)
    world.handle(ProcessReady(start.process))
    world.results(start.process, 1)
    about = {"time": 1000.5, "executor": "1-0", "call": 0, "function": "work", "category": "work", "context": 1}
    steps = [line for line in world.events() if "call" in line]
    assert steps == [
        {**about, "event": "call queued"},
        {**about, "event": "call sent", "process": 1, "node": "here"},
        {**about, "event": "call done", "process": 1},
    ]
    assert [line["event"] for line in world.events() if "call" not in line] == ["process starting", "process ready"]
    assert call.number == 0


def test_failures_losses_retries_and_cancels_have_their_reasons() -> None:
    world, context = Told(), make_context()
    process = world.warm(context, estimate_s=1e-3)
    calls, _ = world.queue(context, 3)
    world.handle(ResultsArrived(process, ["x"], [], [(0, "raised", "ValueError: bad")]))
    world.handle(NodeLost(HERE, "silent"))
    world.handle(CancelRequested(calls[2]))
    ends = {line["call"]: (line["event"], line.get("reason")) for line in world.events() if "call" in line}
    assert ends[calls[0].number] == ("call failed", "ValueError: bad")
    assert ends[calls[1].number] == ("call lost", "node here lost: silent")
    assert ends[calls[2].number][0] == "call cancelled"
    assert "CallCancelledError" in str(ends[calls[2].number][1])


def test_names_with_anything_in_them_stay_one_line() -> None:
    world, context = Told(), make_context()
    world.function.category = 'a "quoted"\n{name}, ümlaut'
    world.handle(CallsQueued([Call(7, world.function, context, b"")]))
    assert world.events()[0]["category"] == world.function.category


def test_every_call_of_an_executor_ends_once_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with ContextExecutor(max_workers=2, events=path) as executor:
        futures = [executor.submit(functions.double, number) for number in range(300)]
        futures += [executor.submit(functions.divide, 1, 0), executor.submit(functions.leave, 3)]
        futures.append(executor.submit(task(retries=1)(functions.fail_at_first), str(tmp_path / "tries"), 1))
        blocked = [executor.submit(functions.wait_for, str(tmp_path / "go")) for _ in range(4)]
        cancelled = [future.cancel() for future in blocked]
        assert any(cancelled)
        (tmp_path / "go").touch()
        for future in futures:
            future.exception(GENEROUS_S)
    lines = read(path)
    ends = Counter(line["call"] for line in lines if line["event"] in ("call done", "call failed", "call cancelled"))
    assert ends == dict.fromkeys(range(307), 1)
    assert all(of_call(lines, number)[0] == "queued" for number in range(307))
    assert of_call(lines, 302)[-4:] == ["sent", "retried", "sent", "done"]
    assert lines[-1]["event"] == "executor finished"
    assert len({line["executor"] for line in lines}) == 1
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_variable_names_the_file_and_several_executors_append_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("ENVPACK_EVENTS", str(path))
    for _ in range(2):
        with ContextExecutor(max_workers=1) as executor:
            assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2
    assert len({line["executor"] for line in read(path)}) == 2


def test_nothing_is_written_when_nobody_asks(tmp_path: Path) -> None:
    with ContextExecutor(max_workers=1) as executor:
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2
        assert executor._loop._journal is None


def test_a_log_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="cannot be opened: No such file or directory"):
        ContextExecutor(max_workers=1, events=tmp_path / "nowhere" / "events.jsonl")


def test_a_full_disk_stops_no_call_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with ContextExecutor(max_workers=1, events="/dev/full") as executor:
        for number in range(3):
            assert executor.submit(functions.double, number).result(GENEROUS_S) == 2 * number
            wait_until(lambda: bool(caplog.records), "the loss is told")
    assert [record.getMessage() for record in caplog.records] == [
        "event log '/dev/full': lines are lost: No space left on device"
    ]


def test_lines_that_were_lost_are_counted_when_there_is_room_again(tmp_path: Path) -> None:
    writer = LineWriter(tmp_path / "log")
    with open("/dev/full", "wb", buffering=0) as full, (tmp_path / "log").open("ab", buffering=0) as log:
        os.dup2(full.fileno(), writer._descriptor, inheritable=False)
        writer.put('{"lost":1}\n{"lost":2}\n')
        wait_until(lambda: writer._lost == 2, "two lines are lost")
        os.dup2(log.fileno(), writer._descriptor, inheritable=False)
        writer.put('{"kept":3}\n')
        writer.close()
    first, second = read(tmp_path / "log")
    assert (first["event"], first["lines"], second) == ("lines lost", 2, {"kept": 3})
