"""`BlockNodes`: where workers may join, and a thread that asks a source for as many blocks of them as calls want.

    executor's loop ──what waits, which workers are there──▶ thread ──▶ book, plan ──submit, poll, cancel──▶ source
         ▲  ▲───────────drain these workers, or give up─────────┘                                               │
         └──────────────────────────── workers join ◀──────────────── envpack worker --block ◀───────job────────┘

The loop never waits for the source, which may take seconds, and the thread never waits for the loop: it is handed what
it must know whenever it is ready for that. Guarantees: when the executor has ended, no job of it is left, in a queue or
running; blocks that fail again and again end the calls that wait for them instead of being asked for for ever.
"""

from __future__ import annotations

import functools
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack_executor.blocks.book import Block, Book, Ended, Member, Phase
from envpack_executor.blocks.scaling import Demand, Scaling, plan
from envpack_executor.blocks.source import BlockSource, JobState, WorkerCommand, WorkerOptions
from envpack_executor.errors import BlocksError, ExecutorError, InternalError
from envpack_executor.messages import NodeId
from envpack_executor.nodes import RemoteNodes

if TYPE_CHECKING:
    from envpack_executor.manager.loop import ManagerLoop

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
MIN_POLL_S = 1.0
# How long jobs may take to end by themselves when the executor has ended, before they are cancelled.
LEAVE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the executor's loop knows that the thread must know.

    Args:
        waiting: calls that wait.
        running: calls that run.
        other_slots: calls that run at once elsewhere than in blocks.
        members: the workers of each block.
        waited_s: for how long the oldest call has been the oldest that waits for a node alone; 0 without one.
    """

    waiting: int
    running: int
    other_slots: int
    members: Mapping[str, Sequence[Member]]
    waited_s: float


@dataclass(frozen=True, slots=True)
class BlockStatus:
    """A block as it is now.

    Args:
        block: its name.
        job: what the source calls it.
        state: `pending`, `running` (and no worker has joined yet), `up`, or `deserted` (its workers are gone).
        since_s: for how long, in seconds.
        nodes: ids of its workers.
        is_leaving: it takes no more calls.
    """

    block: str
    job: str
    state: str
    since_s: float
    nodes: tuple[str, ...]
    is_leaving: bool


class BlockNodes:
    """Nodes that a source supplies in blocks.

    Args:
        source: of blocks; it belongs to these nodes, which close it.
        remote: where their workers join.
        scaling: how many blocks there may be.
        options: what each worker is told.
        register_within_s: a block that has run for so long without a worker that joined is given up.
        max_failures: after so many blocks in a row that failed, with no node left, the calls that wait end with
            `BlocksError`, and the executor takes no more.
        advice: what to look at when blocks fail, for that error.

    Raises:
        ValueError: `max_failures` is less than 1, or `register_within_s` is not positive.
    """

    def __init__(
        self,
        source: BlockSource,
        *,
        remote: RemoteNodes | None = None,
        scaling: Scaling | None = None,
        options: WorkerOptions | None = None,
        register_within_s: float = 300.0,
        max_failures: int = 3,
        advice: str = "",
    ) -> None:
        if max_failures < 1:
            raise ValueError(f"max_failures is {max_failures!r}, expected 1 or more")
        if not register_within_s > 0:
            raise ValueError(f"register_within_s must be greater than 0, not {register_within_s!r}")
        self._source = source
        self._remote = remote or RemoteNodes()
        self._scaling = scaling or Scaling()
        self._options = options or WorkerOptions()
        self._max_failures = max_failures
        self._advice = advice
        self._book = Book(source.name, register_within_s, source.slots_per_block)
        self._lock = threading.Lock()  # of the book: the thread writes, anybody reads
        self._inbox: queue.SimpleQueue[_Seen | None] = queue.SimpleQueue()
        self._is_ready = True
        self._look_at_s = 0.0
        self._first_waiting: int | None = None
        self._waits_since_s = 0.0
        self._numbers = itertools.count()
        self._run = secrets.token_hex(3)
        self._has_planned = False
        self._needed_at_s: float | None = None
        self._poll_at_s = 0.0
        self._error: ExecutorError | None = None
        self._loop: ManagerLoop | None = None
        self._thread = threading.Thread(target=self._work, name="envpack-blocks", daemon=True)

    @property
    def address(self) -> str:
        """The address at which workers join.

        Raises:
            ExecutorError: no executor listens yet.
        """
        return self._remote.address

    @property
    def key_file(self) -> Path:
        """The file with the workers' key.

        Raises:
            ExecutorError: no executor listens yet.
        """
        return self._remote.key_file

    def blocks(self) -> tuple[BlockStatus, ...]:
        """Return the blocks whose jobs have no end yet, oldest first."""
        now_s = time.monotonic()
        with self._lock:
            return tuple(_status(block, now_s) for block in self._book.blocks.values())

    def ended(self) -> tuple[Ended, ...]:
        """Return the last hundred blocks that are over, and why, oldest first."""
        with self._lock:
            return tuple(self._book.ended)

    def open(self, loop: ManagerLoop, resident: Callable[[int], int]) -> None:
        """Listen, and ask for blocks, for the executor that `loop` belongs to.

        Args:
            loop: takes the nodes that join, and says what waits.
            resident: how many context processes a node of so many cores may keep.

        Raises:
            ExecutorError: the address cannot be bound, or another executor uses this object.
            KeyFileError: the key file cannot be written.
        """
        self._remote.open(loop, resident)
        self._loop = loop
        self._thread.start()
        loop.add_timer(self._look)
        loop.add_closer(self._close)
        loop.about_nodes = self._summary

    # --- in the loop's thread

    def _look(self, now_s: float) -> float:
        """Hand on what there is to know, if it is time and the thread is ready for it; return when to come again."""
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            self._note_waits(now_s)
            if self._error is not None:
                self._give_up(self._error)
            elif self._is_ready:
                self._is_ready = False
                self._inbox.put(self._seen(now_s))
        return self._look_at_s

    def _give_up(self, error: ExecutorError) -> None:
        """Again and again: a call may have passed while the executor began to refuse them."""
        assert self._loop is not None
        if self._loop.waiting():
            self._loop.give_up_waiting(error)

    def _note_waits(self, now_s: float) -> None:
        """Take note of which call waits longest for a node, and not for what it needs there."""
        assert self._loop is not None
        ready = [context for context in self._loop.state.waiting.values() if context.environment is not None]
        first = min((context.queue[0].number for context in ready if context.queue), default=None)
        if first != self._first_waiting:
            self._first_waiting, self._waits_since_s = first, now_s

    def _seen(self, now_s: float) -> _Seen:
        assert self._loop is not None
        self._loop.forget_withdrawn()
        members: dict[str, list[Member]] = {}
        nodes = self._loop.nodes()
        for node in nodes:
            if node.block:
                member = Member(node.node, node.cores, node.idle_s, node.is_draining)
                members.setdefault(node.block, []).append(member)
        other_slots = sum(node.cores for node in nodes if not node.block)
        running = sum(node.running for node in nodes)
        waited_s = 0.0 if self._first_waiting is None else now_s - self._waits_since_s
        return _Seen(self._loop.waiting(), running, other_slots, members, waited_s)

    def _let_go(self, node: NodeId) -> None:
        assert self._loop is not None
        self._loop.drain(node, "its block is idle")

    def _summary(self) -> str:
        with self._lock:
            return self._book.summary(time.monotonic())

    def _close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    # --- in the thread

    def _work(self) -> None:
        try:
            while (seen := self._inbox.get()) is not None:
                self._go_on(seen, time.monotonic())
                self._is_ready = True
        except Exception as error:
            _log.exception("blocks of %s are not looked after any more", self._source.name)
            self._error = InternalError(f"blocks are not looked after any more: {type(error).__name__}: {error}")
            self._error.__cause__ = error
        finally:
            self._end()

    def _go_on(self, seen: _Seen, now_s: float) -> None:
        with self._lock:
            self._book.seen(seen.members, now_s)
        self._poll(now_s)
        with self._lock:
            overdue = self._book.give_up_overdue(now_s)
        self._cancel([block.job for block in overdue])
        if self._is_hopeless(seen):
            self._error = BlocksError(self._book.story_of_failures(), self._advice)
        else:
            self._scale(seen, now_s)
        for report in self._book.take_reports():
            _log.warning("%s", report)

    def _poll(self, now_s: float) -> None:
        blocks = list(self._book.blocks.values())
        if not blocks or now_s < self._poll_at_s:
            return
        try:
            statuses = self._source.poll([block.job for block in blocks])
        except Exception as error:  # it will be asked again: a busy scheduler is no reason to lose what runs
            _log.warning("%s does not say how its jobs are: %s: %s", self._source.name, type(error).__name__, error)
        else:
            with self._lock:
                names = [block.name for block in blocks]
                self._book.polled(dict(zip(names, statuses, strict=True)), time.monotonic())
        # A young block is asked about more often: most that fail do so at once.
        youngest_s = min(now_s - block.since_s for block in blocks)
        self._poll_at_s = time.monotonic() + min(self._source.poll_every_s, max(MIN_POLL_S, youngest_s))

    def _scale(self, seen: _Seen, now_s: float) -> None:
        if seen.waiting or seen.running:
            self._needed_at_s = now_s
        demand = Demand(
            seen.waiting + seen.running,
            seen.other_slots,
            0.0 if self._needed_at_s is None else now_s - self._needed_at_s,
            is_first=not self._has_planned,
            is_troubled=self._book.failures > 0,
            waited_s=seen.waited_s,
        )
        self._has_planned = True
        todo = plan(demand, self._book.views(now_s), self._book.slots_per_block, self._limits())
        for _ in range(todo.submit):
            if self._book.may_try(now_s):
                self._submit()
        self._give_up_pending(todo.cancel)
        self._drain(todo.drain)

    def _limits(self) -> Scaling:
        """Return between which limits blocks come and go now; called in the thread."""
        return self._scaling

    def _submit(self) -> None:
        name = f"{self._run}-{next(self._numbers)}"
        command = WorkerCommand(self.address, str(self.key_file), name, self._options)
        try:
            job = self._source.submit(name, command)
        except Exception as error:
            with self._lock:
                self._book.refused(name, f"{type(error).__name__}: {error}", time.monotonic())
        else:
            with self._lock:
                self._book.submitted(name, job, time.monotonic())

    def _give_up_pending(self, names: Sequence[str]) -> None:
        if not names:
            return
        self._cancel([self._book.blocks[name].job for name in names])
        with self._lock:
            self._book.cancelled(names, "nothing was left to do before it came", time.monotonic())

    def _drain(self, names: Sequence[str]) -> None:
        assert self._loop is not None
        for name in names:
            for member in self._book.blocks[name].members:
                # Its answer is not waited for: the loop itself may wait for this thread.
                self._loop.call_soon(functools.partial(self._let_go, NodeId(member.node)))
        with self._lock:
            self._book.told_to_leave(names)

    def _cancel(self, jobs: Sequence[str]) -> None:
        if not jobs:
            return
        try:
            self._source.cancel(jobs)
        except Exception as error:
            _log.warning(
                "jobs %s of %s may be left: %s: %s", ", ".join(jobs), self._source.name, type(error).__name__, error
            )

    def _is_hopeless(self, seen: _Seen) -> bool:
        """Tell whether calls wait for which no block will ever come."""
        has_nodes = seen.other_slots or seen.members
        has_failed = self._book.failures >= self._max_failures and self._book.is_barren()
        return bool(has_failed and not has_nodes and seen.waiting)

    def _end(self) -> None:
        """Leave no job behind: give up those that wait, let the others end, and end those that do not."""
        blocks = list(self._book.blocks.values())
        self._cancel([block.job for block in blocks if block.phase is not Phase.UP])
        jobs = [block.job for block in blocks if block.phase is Phase.UP]
        give_up_at_s, pause_s = time.monotonic() + LEAVE_WITHIN_S, 0.02
        while jobs and time.monotonic() < give_up_at_s:
            jobs = self._still_there(jobs)
            if jobs:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 1.0)
        self._cancel(jobs)
        with self._lock:
            self._book.cancelled([block.name for block in blocks], "the executor has ended", time.monotonic())
        try:
            self._source.close()
        except Exception:
            _log.exception("while the blocks of %s were closed", self._source.name)

    def _still_there(self, jobs: Sequence[str]) -> list[str]:
        try:
            statuses = self._source.poll(jobs)
        except Exception:
            return list(jobs)
        over = (JobState.ENDED, JobState.FAILED)
        return [job for job, status in zip(jobs, statuses, strict=True) if status.state not in over]


def _status(block: Block, now_s: float) -> BlockStatus:
    nodes = tuple(member.node for member in block.members)
    return BlockStatus(block.name, block.job, block.phase.value, now_s - block.since_s, nodes, block.is_leaving)
