"""The manager's answers to workers that lack a layer or a large value: pieces of its blob."""

from __future__ import annotations

import os

from envpack_executor.messages import Chunk
from envpack_executor.values.blobs import BLOBS

CHUNK_BYTES = 1 << 20


def read_chunk(store_folder: str | None, digest: str, offset: int) -> Chunk:
    """Return the piece of a blob that begins at `offset`; its `total` is -1 when the client has it not.

    Args:
        store_folder: the client's store; None for the default.
        digest: of the layer, or name of the large value.
        offset: in bytes.
    """
    blob = BLOBS.live.get(digest)
    if blob is not None:
        return Chunk(digest, offset, bytes(blob.view()[offset : offset + CHUNK_BYTES]), blob.size)
    from envpack.pack import Store

    store = Store(store_folder)
    try:
        with open(store.blob(digest), "rb") as file:
            total = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), CHUNK_BYTES, offset)
    except (OSError, KeyError, ValueError):
        return Chunk(digest, offset, b"", -1)
    return Chunk(digest, offset, data, total)
