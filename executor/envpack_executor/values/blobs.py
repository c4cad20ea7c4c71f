"""The blobs of this client: equal bytes are one blob for as long as somebody needs it.

Guarantees: two blobs are taken for equal only when all their bytes are. Comparing is ten times as fast as a digest
that cannot be fooled; a digest over samples finds what is worth comparing. A blob that no call and no reference needs
is freed at once, except for the latest, which are kept in case that the same bytes come again.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence

from envpack_executor import settings
from envpack_executor.values.segments import Blob, Segments

Pieces = Sequence[tuple[int, bytes | memoryview]]

_SAMPLE_BYTES = 4096
_SAMPLES = 16
_COMPARED_BYTES = 1 << 18
# As many alike blobs are compared with a new one: more would make a series of almost equal ones slow.
_MAX_ALIKE = 4
# The share of the machine's memory in which the latest blobs are kept although no call needs them.
_RECENT_SHARE = 16


class Blobs:
    """All blobs of a process."""

    def __init__(self) -> None:
        self._segments = Segments()
        self._alike: dict[bytes, deque[weakref.ref[Blob]]] = {}
        self.live: weakref.WeakValueDictionary[str, Blob] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[str, Blob] = OrderedDict()
        self._recent_bytes = settings.usable_memory() // _RECENT_SHARE
        self._lock = threading.Lock()

    def hold(self, size: int, pieces: Pieces, needs: tuple[Blob, ...] = ()) -> Blob:
        """Return the blob with these bytes.

        Args:
            size: of all of them.
            pieces: (offset, bytes).
            needs: the blobs without which it cannot be unpickled.

        Raises:
            MemoryError: there is not enough memory for it.
        """
        sample = _sample(size, pieces)
        for reference in list(self._alike.get(sample, ())):
            known = reference()
            if known is not None and _is_equal(known, pieces):
                return known
        blob = self._segments.write(uuid.uuid4().hex, size, pieces)
        blob.needs = needs
        self.live[blob.name] = blob
        with self._lock:
            alike = self._alike.setdefault(sample, deque(maxlen=_MAX_ALIKE))
            alike.append(weakref.ref(blob))
        weakref.finalize(blob, self._forget, sample, alike).atexit = False
        return blob

    def note_use(self, blob: Blob) -> None:
        """Keep a blob, although no call may need it, until others were used later."""
        with self._lock:
            self._recent[blob.name] = blob
            self._recent.move_to_end(blob.name)
            total = sum(blob.size for blob in self._recent.values())
            while total > self._recent_bytes:
                total -= self._recent.popitem(last=False)[1].size

    def forget_recent(self) -> None:
        """Free the blobs that no call and no reference needs."""
        with self._lock:
            self._recent.clear()

    def _forget(self, sample: bytes, alike: deque[weakref.ref[Blob]]) -> None:
        # Without the lock: this runs wherever the last reference goes, also in a thread that holds it.
        if all(reference() is None for reference in list(alike)) and self._alike.get(sample) is alike:
            self._alike.pop(sample, None)


BLOBS = Blobs()


def _sample(size: int, pieces: Pieces) -> bytes:
    """Return a digest of some of the bytes: equal bytes have equal samples, others seldom."""
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    step = max(_SAMPLE_BYTES, size // _SAMPLES)
    for offset, piece in pieces:
        view = memoryview(piece)
        digest.update(offset.to_bytes(8, "little"))
        for start in range(0, len(view), step):
            digest.update(view[start : start + _SAMPLE_BYTES])
        digest.update(view[-_SAMPLE_BYTES:])
    return digest.digest()


def _is_equal(blob: Blob, pieces: Pieces) -> bool:
    known = blob.view()
    for offset, piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _COMPARED_BYTES):
            part = bytes(view[start : start + _COMPARED_BYTES])
            # By copies that stay in the cache: memoryviews compare byte by byte.
            if bytes(known[offset + start : offset + start + len(part)]) != part:
                return False
    return True
