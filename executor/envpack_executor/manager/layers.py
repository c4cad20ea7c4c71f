"""The manager's answers to workers that lack a layer: pieces of its blob, read from the client's store."""

from __future__ import annotations

import os

from envpack_executor.messages import Chunk

CHUNK_BYTES = 1 << 20


def read_chunk(store_folder: str | None, digest: str, offset: int) -> Chunk:
    """Return the piece of a layer's blob that begins at `offset`; its `total` is -1 when the store has it not.

    Args:
        store_folder: the client's store; None for the default.
        digest: of the layer.
        offset: in bytes.
    """
    from envpack.pack import Store

    store = Store(store_folder)
    try:
        with open(store.blob(digest), "rb") as blob:
            total = os.fstat(blob.fileno()).st_size
            data = os.pread(blob.fileno(), CHUNK_BYTES, offset)
    except (OSError, KeyError, ValueError):
        return Chunk(digest, offset, b"", -1)
    return Chunk(digest, offset, data, total)
