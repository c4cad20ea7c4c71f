"""What a call prints goes where it always goes, and stands with the failure of that call and of no other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor, RemoteNodes, task
from envpack_executor.errors import ContextSetupError, ProcessLostError
from tests.executor import functions
from tests.executor.conftest import StartWorker
from tests.executor.helpers import GENEROUS_S


@pytest.mark.parametrize("mode", ["direct", "fork", "thread", "fresh"])
def test_a_failure_shows_what_its_call_has_printed_and_nothing_of_others(mode: Any) -> None:
    say, fail = task(mode=mode)(functions.say), task(mode=mode)(functions.say_and_fail)
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(say, "silence of others").result(GENEROUS_S)
        error = executor.submit(fail, "half done").exception(GENEROUS_S)
    assert isinstance(error, ValueError)
    story = str(error.__cause__)
    assert "stdout of the call:\nhalf done\nbytes" in story
    assert "stderr of the call:\na warning of logging" in story
    assert "silence of others" not in story


def test_only_the_end_of_much_output_is_kept() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(functions.say_and_fail, "x" * 100 + "\n" * 200_000).exception(GENEROUS_S)
        assert error is not None
        assert len(str(error.__cause__)) < 150_000


def test_a_call_that_prints_nothing_has_a_traceback_alone() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(functions.divide, 1, 0).exception(GENEROUS_S)
        assert error is not None
        assert "of the call" not in str(error.__cause__)


def test_a_set_up_that_fails_shows_what_it_has_printed() -> None:
    with ContextExecutor(max_workers=1) as executor:
        error = executor.submit(task(context=(functions.say_and_fail, "loading"))(functions.pid)).exception(GENEROUS_S)
        assert isinstance(error, ContextSetupError)
        assert error.__cause__ is not None
        assert "stdout of the call:\nloading" in str(error.__cause__.__cause__)


def test_a_crash_shows_where_the_process_was_and_what_it_wrote_last() -> None:
    with ContextExecutor(max_workers=1, max_tries=1) as executor:
        error = executor.submit(functions.say_and_crash, "so far so good").exception(GENEROUS_S)
    assert isinstance(error, ProcessLostError)
    assert error.losses == (f"killed by signal {signal.SIGSEGV.value} on this machine",)
    [note] = error.__notes__
    assert note.startswith("stderr of the process that was lost ended with:\nso far so good\n")
    assert "Fatal Python error: Segmentation fault" in note
    assert "in say_and_crash" in note


def test_prints_arrive_where_those_of_the_client_do(capfd: pytest.CaptureFixture[str]) -> None:
    with ContextExecutor(max_workers=1) as executor:
        executor.submit(functions.say, "hello").result(GENEROUS_S)
    assert capfd.readouterr().out == "hello\n"


# --- at the client


@pytest.mark.parametrize("mode", ["direct", "fork", "thread", "fresh"])
def test_what_calls_print_is_told_with_their_category_before_they_end(mode: Any, capfd: Any) -> None:
    told: list[tuple[str, str, str]] = []
    say = task(mode=mode, category="talk")(functions.say)
    words = "è" * 10_000  # longer than what is written at once, and cut within a character
    with ContextExecutor(max_workers=1, output=lambda *piece: told.append(piece)) as executor:
        executor.submit(say, words).result(GENEROUS_S)
        assert {piece[:2] for piece in told} == {("talk", "stdout")}
        assert "".join(text for _, _, text in told) == f"{words}\n"
    assert capfd.readouterr().out == "", "it appeared twice"


def test_streams_of_the_client_show_what_calls_print(capsys: Any) -> None:
    with ContextExecutor(max_workers=1, output="stream") as executor:
        executor.submit(functions.say_and_fail, "half done").exception(GENEROUS_S)
        assert executor.submit(functions.say, "done").result(GENEROUS_S) is None
    shown = capsys.readouterr()
    assert shown.out == "half done\nbytes\ndone\n"
    assert "a warning of logging" in shown.err


def test_prints_of_a_worker_elsewhere_reach_the_client(start_worker: StartWorker, tmp_path: Path) -> None:
    told: list[tuple[str, str, str]] = []
    nodes = RemoteNodes()
    with ContextExecutor(nodes=nodes, output=lambda *piece: told.append(piece)) as executor:
        start_worker(nodes.address, nodes.key_file)
        executor.submit(functions.say, "from afar").result(GENEROUS_S)
    assert "".join(text for _, _, text in told) == "from afar\n"
    assert "from afar" not in (tmp_path / "worker-0.err").read_text()


def test_who_cannot_take_what_is_printed_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(category: str, stream: str, text: str) -> None:
        raise OSError("nobody reads this")

    with ContextExecutor(max_workers=1, output=refuse) as executor:
        executor.submit(functions.say, "unheard").result(GENEROUS_S)
        assert executor.submit(functions.double, 2).result(GENEROUS_S) == 4
    assert "while what a call printed was shown" in caplog.text


def test_an_unknown_choice_is_refused() -> None:
    choice: Any = "elsewhere"
    with pytest.raises(ValueError, match="output is 'elsewhere', expected 'inherit', 'stream' or a function"):
        ContextExecutor(1, output=choice)
