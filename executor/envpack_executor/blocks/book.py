"""What is known of each block, and what follows from that. Pure: time and news come in, what to report comes out.

    PENDING ──runs──▶ RUNNING ──worker joins──▶ UP ──its workers are gone──▶ DESERTED ──their place is given up──┐
       └────────────────┴──────── job ends, fails or is cancelled ───────────┴──▶ forgotten, and remembered in `ended`

A block *failed* when its job is over before a worker of it has joined, or when none joins though it runs. Failures in a
row are counted: they tell that the next ones will fail as well. A block that was up is no failure, however it ends:
its calls run again elsewhere, and it is replaced if there is still something to do.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from envpack_executor.blocks.scaling import BlockView
from envpack_executor.blocks.source import JobState, JobStatus

# A worker that was cut off joins again within its own patience, 30 s by default.
DESERTED_FOR_S = 45.0
# After failures the next block waits for twice as long each time, but no longer than this.
LONGEST_PAUSE_S = 300.0
REMEMBERED = 100


class Phase(enum.Enum):
    """Where a block is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    UP = "up"
    DESERTED = "deserted"


@dataclass(frozen=True, slots=True)
class Member:
    """A worker of a block that has joined.

    Args:
        node: its id.
        slots: calls that run there at once.
        idle_s: for how long nothing has run there; 0 while something does.
        is_draining: it takes no more calls.
    """

    node: str
    slots: int
    idle_s: float = 0.0
    is_draining: bool = False


@dataclass(slots=True)
class Block:
    """A block whose job has no end yet.

    Args:
        name: of the block.
        job: what the source calls it.
        phase: where it is.
        since_s: when it got there.
        members: its workers.
        is_leaving: it was told to leave, or leaves by itself.
        slots: calls that ran in it at once, at most; 0 before it is up.
    """

    name: str
    job: str
    phase: Phase
    since_s: float
    members: tuple[Member, ...] = ()
    is_leaving: bool = False
    slots: int = 0

    def enter(self, phase: Phase, now_s: float) -> None:
        """Go on to `phase`."""
        if phase is not self.phase:
            self.phase, self.since_s = phase, now_s


@dataclass(frozen=True, slots=True)
class Ended:
    """A block that is over.

    Args:
        name: of the block.
        job: what the source called it; empty if it never was one.
        reason: in words.
        is_failure: no worker of it has ever joined.
    """

    name: str
    job: str
    reason: str
    is_failure: bool


class Book:
    """Keeps the blocks of one source.

    Args:
        source: its name, for messages to people.
        register_within_s: a block that has run for so long without a worker that joined has failed.
        slots_per_block: as far as is known beforehand; 0 if it is not.
    """

    def __init__(self, source: str, register_within_s: float, slots_per_block: int = 0) -> None:
        self.blocks: dict[str, Block] = {}
        self.ended: deque[Ended] = deque(maxlen=REMEMBERED)
        self.failures = 0
        self.slots_per_block = slots_per_block
        self._source = source
        self._register_within_s = register_within_s
        self._may_try_at_s = 0.0
        self._reports: list[str] = []

    # --- news

    def submitted(self, name: str, job: str, now_s: float) -> None:
        """A block was asked for."""
        self.blocks[name] = Block(name, job, Phase.PENDING, now_s)

    def refused(self, name: str, reason: str, now_s: float) -> None:
        """A block was asked for, and the source did not take it."""
        self._end(Block(name, "", Phase.PENDING, now_s), f"{self._source} refused it: {reason}", True, now_s)

    def polled(self, states: Mapping[str, JobStatus], now_s: float) -> None:
        """The source says this about jobs, by block."""
        for name, status in states.items():
            block = self.blocks.get(name)
            if block is None:
                continue
            if status.state in (JobState.ENDED, JobState.FAILED):
                self._job_over(block, status, now_s)
            elif status.state is JobState.RUNNING and block.phase is Phase.PENDING:
                block.enter(Phase.RUNNING, now_s)

    def seen(self, members: Mapping[str, Sequence[Member]], now_s: float) -> None:
        """These workers are there, by block."""
        for block in self.blocks.values():
            block.members = tuple(members.get(block.name, ()))
            if block.members:
                self._is_up(block, now_s)
            elif block.phase is Phase.UP:
                block.enter(Phase.DESERTED, now_s)

    def told_to_leave(self, names: Iterable[str]) -> None:
        """The workers of these blocks were told to leave."""
        for name in names:
            self.blocks[name].is_leaving = True

    def cancelled(self, names: Iterable[str], reason: str, now_s: float) -> None:
        """The jobs of these blocks were ended, because they are not wanted."""
        for name in names:
            self._end(self.blocks.pop(name), reason, False, now_s)

    def give_up_overdue(self, now_s: float) -> list[Block]:
        """Forget blocks that nothing is expected of any more; return them: their jobs must be ended."""
        overdue = [block for block in self.blocks.values() if self._is_overdue(block, now_s)]
        for block in overdue:
            del self.blocks[block.name]
            has_failed = block.phase is Phase.RUNNING
            what = "runs, but no worker of it has joined" if has_failed else "its workers are gone"
            self._end(block, f"{what} for {now_s - block.since_s:.0f} s", has_failed, now_s)
        return overdue

    # --- what follows

    def views(self, now_s: float) -> list[BlockView]:
        """Return the blocks that calls can count on, oldest first."""
        staying = [
            block for block in self.blocks.values() if not block.is_leaving and block.phase is not Phase.DESERTED
        ]
        return [self._view(block, now_s) for block in staying]

    def may_try(self, now_s: float) -> bool:
        """Tell whether another block may be asked for, after those that failed."""
        return now_s >= self._may_try_at_s

    def is_barren(self) -> bool:
        """Tell whether there is no block, nor any on its way."""
        return not self.blocks

    def take_reports(self) -> list[str]:
        """Return what people should be told, once."""
        reports, self._reports = self._reports, []
        return reports

    def summary(self, now_s: float) -> str:
        """Say in words what blocks there are that have no worker yet, and what became of the last one if it failed."""
        said = [_story(block, now_s) for block in self.blocks.values() if block.phase in (Phase.PENDING, Phase.RUNNING)]
        if self.failures:
            said.append(self.story_of_failures())
        return "; ".join(said) or f"{self._source} has no block that is on its way"

    def story_of_failures(self) -> str:
        """Say in words how many blocks failed one after another, and why the last one did."""
        last = next((ended for ended in reversed(self.ended) if ended.is_failure), None)
        if last is None or not self.failures:
            return "no block has failed"
        return (
            f"{self.failures} block(s) of {self._source} failed one after another, at last {last.name}: {last.reason}"
        )

    # --- inside

    def _is_up(self, block: Block, now_s: float) -> None:
        block.enter(Phase.UP, now_s)
        block.slots = max(block.slots, sum(member.slots for member in block.members))
        block.is_leaving |= all(member.is_draining for member in block.members)
        self.slots_per_block = max(self.slots_per_block, block.slots)
        self.failures = 0
        self._may_try_at_s = 0.0

    def _view(self, block: Block, now_s: float) -> BlockView:
        if block.phase is not Phase.UP:
            return BlockView(block.name, max(1, self.slots_per_block), is_up=False)
        slots = sum(member.slots for member in block.members if not member.is_draining)
        idle_s = min(member.idle_s for member in block.members)
        return BlockView(block.name, slots, is_up=True, idle_s=idle_s, up_s=now_s - block.since_s)

    def _is_overdue(self, block: Block, now_s: float) -> bool:
        waited_s = now_s - block.since_s
        if block.phase is Phase.RUNNING:
            return waited_s > self._register_within_s
        return block.phase is Phase.DESERTED and waited_s > DESERTED_FOR_S

    def _job_over(self, block: Block, status: JobStatus, now_s: float) -> None:
        del self.blocks[block.name]
        never_joined = block.phase in (Phase.PENDING, Phase.RUNNING)
        how = "failed" if status.state is JobState.FAILED else "ended"
        before = " before a worker of it joined" if never_joined else ""
        self._end(block, f"job {block.job} {how}{before}{_more(status.detail)}", never_joined, now_s)

    def _end(self, block: Block, reason: str, is_failure: bool, now_s: float) -> None:
        self.ended.append(Ended(block.name, block.job, reason, is_failure))
        if is_failure:
            self.failures += 1
            self._may_try_at_s = now_s + min(2.0 ** (self.failures - 1), LONGEST_PAUSE_S)
            self._reports.append(f"block {block.name} of {self._source} failed: {reason}")


def _story(block: Block, now_s: float) -> str:
    since = f"since {now_s - block.since_s:.3g} s"
    if block.phase is Phase.PENDING:
        return f"block {block.name} (job {block.job}) has been asked for {since}"
    return f"block {block.name} (job {block.job}) runs {since}, and no worker of it has joined yet"


def _more(detail: str) -> str:
    return f": {detail}" if detail else ""
