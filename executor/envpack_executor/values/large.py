"""Pickles of what is too large to travel with its call: a short pickle, and blobs that nodes get once.

What is large is found by what the pickler meets, not by a walk of our own: a buffer above `LARGE_BYTES`, or a pickle
above it. Then each argument is looked at alone, so that the blob of a large one is the same whatever stands beside it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from envpack_executor.process import kept
from envpack_executor.process.frames import LARGE_BYTES, WITHOUT_BUFFERS
from envpack_executor.values.blobs import BLOBS
from envpack_executor.values.references import noting_needs
from envpack_executor.values.segments import Blob

Dump = Callable[[Any, Callable[[pickle.PickleBuffer], bool]], bytes]


class LargePayload(bytes):
    """A pickle that needs blobs where it is loaded; it keeps them alive."""

    blobs: tuple[Blob, ...]

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (bytes(self),)


def with_blobs(payload: bytes, blobs: Sequence[Blob]) -> bytes:
    """Return `payload`, keeping `blobs` and what they need alive; the payload itself without any."""
    if not blobs:
        return payload
    large = LargePayload(payload)
    large.blobs = tuple(dict.fromkeys(_with_needs(blobs)))
    return large


def blobs_of(payloads: Sequence[bytes]) -> dict[str, Blob]:
    """Return what these payloads need, by name."""
    return {blob.name: blob for payload in payloads if isinstance(payload, LargePayload) for blob in payload.blobs}


def payload_bytes(payload: bytes) -> int:
    """Return how much memory a payload takes, with its blobs."""
    return len(payload) + sum(blob.size for blob in blobs_of([payload]).values())


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], dump: Dump) -> bytes:
    """Return the payload of arguments of which something is large, or a kept value.

    Args:
        args: by position.
        kwargs: by name.
        dump: pickles a value with a `buffer_callback`.

    Raises:
        MemoryError: there is not enough memory for a blob.
        pickle.PicklingError, TypeError, ...: whatever the argument that cannot be pickled raises.
    """
    if any(type(value) in WITHOUT_BUFFERS and len(value) >= LARGE_BYTES for value in (*args, *kwargs.values())):
        return dump_value(_split(args, kwargs, dump), dump)
    return dump_value((args, kwargs), dump, lambda: _split(args, kwargs, dump))


def dump_value(value: Any, dump: Dump, smaller: Callable[[], Any] | None = None) -> bytes:
    """Return the payload of a value that may be large.

    Args:
        value: what is pickled.
        dump: pickles a value with a `buffer_callback`.
        smaller: returns something that unpickles to the same value, for when its pickle itself is large.
    """
    with noting_needs() as needed:
        buffers = kept.Buffers(LARGE_BYTES)
        stream = dump(value, buffers)
        if len(stream) >= LARGE_BYTES and smaller is not None:
            buffers = kept.Buffers(LARGE_BYTES)
            stream = dump(smaller(), buffers)
    blobs = [_raw(view) for view in buffers.views]
    names = [blob.name for blob in blobs]
    others = [*blobs, *needed.values()]
    if len(stream) >= LARGE_BYTES:
        whole = _raw(memoryview(stream))
        return with_blobs(kept.call_of(kept.blob_loaded, whole.name, names), [whole, *others])
    return with_blobs(kept.call_of(kept.loaded, stream, names) if blobs else stream, others)


def _raw(view: memoryview) -> Blob:
    blob = BLOBS.hold(len(view), [(0, view)])
    BLOBS.note_use(blob)
    return blob


def _with_needs(blobs: Sequence[Blob]) -> Iterator[Blob]:
    for blob in blobs:
        yield from _with_needs(blob.needs)
        yield blob


def _split(args: tuple[Any, ...], kwargs: dict[str, Any], dump: Dump) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with the large ones apart; one object that is given twice stays one."""
    seen: dict[int, Any] = {}

    def apart(value: Any) -> Any:
        if id(value) not in seen:
            seen[id(value)] = _apart(value, dump)
        return seen[id(value)]

    return tuple(map(apart, args)), {name: apart(value) for name, value in kwargs.items()}


def _apart(value: Any, dump: Dump) -> Any:
    """Return what stands for an argument: itself when it is small."""
    if type(value) in WITHOUT_BUFFERS:
        return value if len(value) < LARGE_BYTES else kept.with_buffer(value)
    buffers = kept.Buffers()
    stream = dump(value, buffers)
    if len(stream) < LARGE_BYTES:
        return value
    return kept.Reduced(kept.part_loaded, pickle.PickleBuffer(stream), *map(pickle.PickleBuffer, buffers.views))
