"""Layers that come by the bulk channel: into a temporary file, and from there, verified, into the store."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Callable
from typing import IO

from envpack_executor.bulk.client import BulkClient, Transfer
from envpack_executor.bulk.wire import Kind

_log = logging.getLogger(__name__)


def fetch_layer(
    bulk: BulkClient, digest: str, store: Callable[[str, IO[bytes]], None], fall_back: Callable[[], None]
) -> None:
    """Fetch the blob of a layer.

    Args:
        bulk: by which channel.
        digest: of the layer.
        store: takes the digest and the file when it is whole; called in the loop's thread.
        fall_back: called there instead when it does not come this way.
    """
    spool = tempfile.TemporaryFile(prefix="envpack-layer-")  # noqa: SIM115  # closed by whoever stores it, or below

    def done(size: int) -> None:
        store(digest, spool)

    def failed(reason: str) -> None:
        spool.close()
        _log.warning("layer %s comes by the slow way: %s", digest[:12], reason)
        fall_back()

    bulk.move(Transfer(Kind.LAYER, digest, -1, functools.partial(_write, spool), done, failed))


def _write(spool: IO[bytes], offset: int, data: memoryview) -> None:
    descriptor = spool.fileno()
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
