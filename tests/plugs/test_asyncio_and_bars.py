"""What consumes any executor of the standard library: asyncio, and progress bars over `map`."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from concurrent.futures import as_completed

import pytest
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm

from envpack_executor import ContextExecutor, task
from tests.executor.helpers import GENEROUS_S


def load() -> dict[str, int]:
    return {"offset": 10}


@task(context=load)
def shifted(number: int, offset: int) -> int:
    return number + offset


@pytest.fixture
def executor() -> Iterator[ContextExecutor]:
    with ContextExecutor(max_workers=2) as executor:
        yield executor


def test_a_coroutine_awaits_calls_by_run_in_executor(executor: ContextExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, shifted, number) for number in range(100)))

    assert asyncio.run(main()) == [number + 10 for number in range(100)]


def test_a_coroutine_awaits_futures_and_catches_their_errors(executor: ContextExecutor) -> None:
    async def main() -> tuple[int, ...]:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(executor.submit(divmod, 1, 0))
        return await asyncio.wait_for(asyncio.wrap_future(executor.submit(divmod, 7, 2)), GENEROUS_S)

    assert asyncio.run(main()) == (3, 1)


def test_the_loop_goes_on_while_calls_run(executor: ContextExecutor) -> None:
    async def main() -> int:
        call = asyncio.get_running_loop().run_in_executor(executor, time.sleep, 0.2)
        turns = 0
        while not call.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) > 10


def test_what_a_coroutine_gives_up_is_cancelled(executor: ContextExecutor) -> None:
    async def main() -> None:
        sleepers = [executor.submit(time.sleep, 10 * GENEROUS_S) for _ in range(2)]
        waiting = executor.submit(shifted, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(waiting), 0.05)
        assert waiting.cancelled()
        for sleeper in sleepers:
            assert executor.cancel(sleeper)

    asyncio.run(main())


def test_bars_of_tqdm_count_results_as_they_come(executor: ContextExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread stays for ever
    shown = io.StringIO()
    assert list(tqdm(executor.map(shifted, range(50)), total=50, file=shown)) == list(range(10, 60))
    assert "50/50" in shown.getvalue()

    shown = io.StringIO()
    futures = [executor.submit(shifted, number) for number in range(20)]
    assert sorted(future.result() for future in tqdm(as_completed(futures), total=20, file=shown)) == list(
        range(10, 30)
    )
    assert "20/20" in shown.getvalue()


def test_bars_of_rich_count_results_as_they_come(executor: ContextExecutor) -> None:
    with Progress(console=Console(file=io.StringIO())) as progress:
        assert list(progress.track(executor.map(shifted, range(50)), total=50)) == list(range(10, 60))
        (bar,) = progress.tasks
        assert (bar.completed, bar.finished) == (50, True)
