"""How a pack reaches the workers of a Dask cluster that share no file system with the client: over Dask's connections.

    client ──what the scheduler lacks──▶ desk on the scheduler's host ──what the host lacks──▶ stores of the workers

The desk is a plugin of Dask's scheduler and keeps layers in the store of its machine, not in memory. Guarantees: each
layer travels once to the scheduler and once to each host, however many workers that has (they share its store, and one
fetches while the others wait); each is verified by its digest where it arrives.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from distributed import Client, SchedulerPlugin, Worker

from envpack.pack import Manifest, Store, import_environment
from envpack_executor.errors import EnvironmentPreparationError

_log = logging.getLogger(__name__)

PIECE_BYTES = 4 << 20
PIECE_WITHIN_S = 120.0


class LayerDesk(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Takes layers from clients and hands them to workers; lives in Dask's scheduler.

    Args:
        store: folder of the store on the scheduler's machine; None for the default there.
    """

    name = "envpack-layers"
    idempotent = True

    def __init__(self, store: str | None = None) -> None:
        self._folder = store
        self._arriving: dict[str, IO[bytes]] = {}

    async def start(self, scheduler: Any) -> None:
        """Begin to answer; Dask calls this."""
        self._store = Store(self._folder)
        scheduler.handlers.update(
            envpack_lacking=self.lacking, envpack_put_piece=self.put_piece, envpack_get_piece=self.get_piece
        )

    async def lacking(self, digests: list[str]) -> list[str]:
        """Return the layers whose files are not here; those that are stay as long as the scheduler lives."""
        return [digest for digest in digests if not self._store.hold_blob(digest)]

    async def put_piece(self, upload: str, digest: str, piece: bytes, is_last: bool) -> None:
        """Take the next piece of a layer.

        Args:
            upload: what tells this transfer from others of the same layer.
            digest: the layer.
            piece: its bytes.
            is_last: whether that is all.
        """
        file = self._arriving.setdefault(upload, tempfile.TemporaryFile())  # noqa: SIM115  # closed with its last piece
        file.write(piece)
        if is_last:
            with self._arriving.pop(upload):
                file.seek(0)
                await asyncio.to_thread(self._store.add_blob, digest, _pieces(file), source="a client of Dask")

    async def get_piece(self, digest: str, offset: int) -> bytes:
        """Return a piece of a layer; empty at its end."""
        return await asyncio.to_thread(_piece, self._store, digest, offset)

    async def close(self) -> None:
        """Forget what has not come whole; Dask calls this."""
        for file in self._arriving.values():
            file.close()
        self._arriving.clear()


def share(
    client: Client, environment: str | os.PathLike[str] | Manifest, *, store: str | os.PathLike[str] | None = None
) -> Manifest:
    """Make an environment known to a Dask cluster whose machines do not see the client's files.

    Args:
        client: of the cluster.
        environment: a file that `pack` has written, or what it has returned.
        store: folder of the client's store, where the layers of a `Manifest` are; `ENVPACK_STORE` by default.

    Returns:
        What to give to `EnvpackPlugin(environment=...)`.

    Raises:
        UsageError, PackFormatError: there is no such file, or it is no pack.
        LayerMissingError: the client's store lacks a layer of the manifest.
    """
    own = Store(store)
    manifest = environment if isinstance(environment, Manifest) else import_environment(environment, own)
    client.register_plugin(LayerDesk())
    lacking = client.sync(client.scheduler.envpack_lacking, digests=[ref.digest for ref in manifest.layers])
    for digest in lacking:
        _upload(client, own, digest)
    return manifest


async def fetch(worker: Worker, manifest: Manifest, folder: str | None) -> None:
    """Bring the layers that a worker's store lacks from the desk.

    Args:
        worker: of Dask.
        manifest: the environment.
        folder: of the store; None for the default.

    Raises:
        EnvironmentPreparationError: the desk does not give them.
    """
    store = Store(folder)
    for ref in store.missing(manifest):
        pieces = _pieces_from_desk(worker, asyncio.get_running_loop(), ref.digest)
        try:
            await asyncio.to_thread(store.add_blob, ref.digest, pieces, source="Dask's scheduler", ref=ref)
        except Exception as error:
            raise EnvironmentPreparationError(
                f"layer {ref} is not in the store of {worker.address} and did not come from Dask's scheduler: {error}",
                "give the plugin what envpack_executor.dask.share(client, pack) returns",
            ) from error


def _upload(client: Client, store: Store, digest: str) -> None:
    upload, put = secrets.token_hex(8), client.scheduler.envpack_put_piece
    with open(store.blob(digest), "rb") as file:
        for piece, is_last in _told_apart(_pieces(file)):
            client.sync(put, upload=upload, digest=digest, piece=piece, is_last=is_last)


def _told_apart(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each piece and whether it is the last one."""
    held = next(pieces, b"")
    for piece in pieces:
        yield held, False
        held = piece
    yield held, True


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    return iter(functools.partial(file.read, PIECE_BYTES), b"")


def _piece(store: Store, digest: str, offset: int) -> bytes:
    with open(store.blob(digest), "rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def _pieces_from_desk(worker: Worker, loop: asyncio.AbstractEventLoop, digest: str) -> Iterator[bytes]:
    """Yield a layer, in another thread than the worker's; nothing is asked for before the first piece is wanted."""
    offset = 0
    while True:
        asked = worker.scheduler.envpack_get_piece(digest=digest, offset=offset)
        piece = asyncio.run_coroutine_threadsafe(asked, loop).result(PIECE_WITHIN_S)
        if not piece:
            _log.info("fetched layer %s from Dask's scheduler", digest)
            return
        offset += len(piece)
        yield piece
