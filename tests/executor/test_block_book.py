"""What is known of blocks, and what follows: which are counted on, which have failed, what people are told."""

from __future__ import annotations

import pytest

from envpack_executor.blocks.book import DESERTED_FOR_S, LONGEST_PAUSE_S, Book, Member, Phase
from envpack_executor.blocks.source import JobState, JobStatus

RUNS = JobStatus(JobState.RUNNING)


@pytest.fixture
def book() -> Book:
    return Book("Queue", register_within_s=60.0, slots_per_block=4)


def test_a_block_is_counted_on_from_the_moment_it_is_asked_for(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    assert [(view.slots, view.is_up) for view in book.views(10.0)] == [(4, False)]
    book.polled({"a": RUNS}, 1.0)
    book.seen({"a": [Member("n1", 2), Member("n2", 2)]}, 2.0)
    assert [(view.slots, view.is_up) for view in book.views(10.0)] == [(4, True)]
    assert book.blocks["a"].phase is Phase.UP


def test_what_the_first_block_offers_is_expected_of_the_next() -> None:
    book = Book("Queue", 60.0)
    book.submitted("a", "17", 0.0)
    assert book.views(10.0)[0].slots == 1
    book.seen({"a": [Member("n1", 8)]}, 1.0)
    book.submitted("b", "18", 1.0)
    assert [view.slots for view in book.views(10.0)] == [8, 8]


def test_a_block_is_idle_as_long_as_the_last_of_its_workers(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.seen({"a": [Member("n1", 2, idle_s=9.0), Member("n2", 2, idle_s=4.0)]}, 10.0)
    assert book.views(10.0)[0].idle_s == 4.0


def test_a_block_is_up_since_its_first_worker_joined(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    assert book.views(5.0)[0].up_s == 0.0
    book.seen({"a": [Member("n1", 2)]}, 10.0)
    book.seen({"a": [Member("n1", 2), Member("n2", 2)]}, 20.0)
    assert book.views(25.0)[0].up_s == 15.0


def test_workers_that_drain_are_not_counted_on_and_a_block_of_them_not_at_all(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.seen({"a": [Member("n1", 2, is_draining=True), Member("n2", 2)]}, 1.0)
    assert [view.slots for view in book.views(10.0)] == [2]
    book.seen({"a": [Member("n1", 2, is_draining=True), Member("n2", 2, is_draining=True)]}, 2.0)
    assert book.views(10.0) == []


def test_a_job_that_is_over_before_a_worker_has_joined_is_a_failure_that_says_why(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.polled({"a": JobStatus(JobState.FAILED, "exit code 127")}, 1.0)
    assert book.failures == 1
    assert book.take_reports() == ["block a of Queue failed: job 17 failed before a worker of it joined: exit code 127"]
    assert book.take_reports() == []
    assert "exit code 127" in book.summary(1.0)


def test_a_block_that_was_up_is_no_failure_however_it_ends(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.seen({"a": [Member("n1", 4)]}, 1.0)
    book.polled({"a": JobStatus(JobState.FAILED, "node failed")}, 2.0)
    assert (book.failures, book.take_reports()) == (0, [])
    assert book.ended[-1].reason == "job 17 failed: node failed"


def test_a_block_that_runs_without_a_worker_for_too_long_is_given_up_and_counts_as_failed(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.polled({"a": RUNS}, 1000.0)  # waiting in the queue costs no patience
    assert book.give_up_overdue(1060.0) == []
    assert [block.job for block in book.give_up_overdue(1061.0)] == ["17"]
    assert (book.blocks, book.failures) == ({}, 1)
    assert "runs, but no worker of it has joined for 61 s" in book.take_reports()[0]


def test_a_block_whose_workers_are_gone_is_replaced_at_once_and_given_up_later_unless_they_return(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.seen({"a": [Member("n1", 4)]}, 1.0)
    book.seen({}, 2.0)
    assert book.views(10.0) == []
    assert book.give_up_overdue(2.0 + DESERTED_FOR_S) == []
    book.seen({"a": [Member("n1-again", 4)]}, 3.0)
    assert len(book.views(10.0)) == 1
    book.seen({}, 4.0)
    assert [block.job for block in book.give_up_overdue(5.0 + DESERTED_FOR_S)] == ["17"]
    assert book.failures == 0


def test_after_failures_in_a_row_one_waits_longer_each_time_until_a_worker_joins(book: Book) -> None:
    pauses = []
    for number in range(12):
        book.refused(str(number), "no such partition", 0.0)
        pauses.append(next(pause for pause in [1.0, 2.0, 4.0, 256.0, LONGEST_PAUSE_S] if book.may_try(pause)))
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert "12 block(s) of Queue failed one after another, at last 11: Queue refused it" in book.story_of_failures()
    book.submitted("a", "17", 0.0)
    book.seen({"a": [Member("n1", 4)]}, 0.0)
    assert book.may_try(0.0)
    assert book.failures == 0


def test_what_is_told_to_leave_or_cancelled_is_not_counted_on_and_no_failure(book: Book) -> None:
    for name in "ab":
        book.submitted(name, name, 0.0)
    book.seen({"a": [Member("n1", 4, idle_s=200.0)]}, 1.0)
    book.told_to_leave(["a"])
    book.cancelled(["b"], "nothing was left to do before it came", 1.0)
    assert book.views(10.0) == []
    assert list(book.blocks) == ["a"]
    assert book.failures == 0


def test_unknown_states_and_unknown_blocks_conclude_nothing(book: Book) -> None:
    book.submitted("a", "17", 0.0)
    book.polled({"a": JobStatus(JobState.UNKNOWN), "z": JobStatus(JobState.FAILED)}, 1.0)
    assert book.blocks["a"].phase is Phase.PENDING
    assert book.summary(2.0) == "block a (job 17) has been asked for since 2 s"


def test_people_are_told_what_each_block_waits_for(book: Book) -> None:
    assert book.summary(0.0) == "Queue has no block that is on its way"
    book.submitted("a", "17", 0.0)
    book.submitted("b", "18", 0.0)
    book.polled({"b": RUNS}, 1.0)
    assert book.summary(3.0) == (
        "block a (job 17) has been asked for since 3 s; "
        "block b (job 18) runs since 2 s, and no worker of it has joined yet"
    )
