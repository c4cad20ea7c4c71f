"""The bytes of a context process: whatever the cuts, frames arrive whole, once and in order."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack_executor.process import frames

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=20)


@given(FRAMES, st.lists(st.integers(0, 4000), max_size=40))
def test_frames_survive_any_cuts(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frames.encode(kind, body) for kind, body in sent)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    buffer = frames.FrameBuffer()
    received = []
    for start, end in itertools.pairwise(edges):
        received += buffer.feed(stream[start:end])
    assert received == sent
    assert buffer.feed(b"") == []


def test_a_frame_comes_with_its_last_byte_and_no_earlier() -> None:
    stream = frames.encode(frames.CALLS, b"abc") + frames.encode(frames.BOOT, b"")
    buffer = frames.FrameBuffer()
    received = [buffer.feed(stream[index : index + 1]) for index in range(len(stream))]
    assert [index for index, found in enumerate(received) if found] == [11, 20]


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno(), theirs.fileno()


@pytest.mark.parametrize("size", [0, 1, 1000, 5_000_000])
def test_frames_of_any_size_pass_a_blocking_descriptor(pair: tuple[int, int], size: int) -> None:
    body = os.urandom(size)
    writer = threading.Thread(target=frames.write_frame, args=(pair[0], frames.RESULTS, body))
    writer.start()
    kind, received = frames.read_frame(pair[1]) or (None, None)
    writer.join(20)
    assert (kind, received) == (frames.RESULTS, body)


@pytest.mark.parametrize("sent", [b"", b"\x05\0\0", frames.encode(frames.CALLS, b"abc")[:-1]])
def test_a_stream_that_ends_early_ends_the_reading(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.send(sent)
        assert frames.read_frame(theirs.fileno()) is None
