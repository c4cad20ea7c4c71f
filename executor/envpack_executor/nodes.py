"""Workers on other machines, as the executor is told about them: where they may join, and with which key."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from envpack_executor.errors import ExecutorError

if TYPE_CHECKING:
    from envpack_executor.manager.loop import ManagerLoop
    from envpack_executor.manager.server import Server


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How silence is noticed.

    Args:
        every_s: time between two signs of life, both ways.
        silence_s: whoever was not heard for so long is given up.
    """

    every_s: float = 1.0
    silence_s: float = 10.0


class NodeSource(Protocol):
    """Where an executor's nodes come from: `ContextExecutor(nodes=...)` takes one that belongs to no other executor."""

    def open(self, loop: ManagerLoop, resident: Callable[[int], int]) -> None:
        """Begin, before `loop` starts; what must be freed is handed to its `add_closer`.

        Args:
            loop: takes the nodes that join. From any thread, its `nodes`, `drain` and `state` tell how things stand.
            resident: how many context processes a node of so many cores may keep.

        Raises:
            ExecutorError: it cannot.
        """


class RemoteNodes:
    """Let workers join: `envpack worker --connect ADDRESS --key FILE`, on any machine that reaches the address.

    Args:
        bind: `tcp://HOST:PORT` to listen at; port 0 takes a free one. Loopback by default: other machines reach it
            only when you name an interface of this one.
        key_file: where the key that workers need is written, mode 600, and removed at the end; in a private temporary
            folder by default.
        heartbeat: how silence is noticed.
        bulk: how layers, large arguments and large results travel. `"plain"`: over connections of their own to
            `bulk_port`, authenticated and checked, but not encrypted; over the encrypted one only where these cannot be
            made. `"encrypted"`: over the encrypted one, which is slower.
        bulk_port: for `"plain"`; 0 takes a free one.
        peers: how many layers a worker passes on to others at once, for `"plain"`: the client then sends each layer
            once, and whoever needs it too takes it from a worker, while that is still receiving it. 0 to send it to
            each worker from the client.

    Raises:
        ValueError: `bulk` is neither, or `peers` is negative.
    """

    def __init__(
        self,
        bind: str = "tcp://127.0.0.1:0",
        key_file: str | Path | None = None,
        heartbeat: Heartbeat | None = None,
        bulk: Literal["plain", "encrypted"] = "plain",
        bulk_port: int = 0,
        peers: int = 4,
    ) -> None:
        if bulk not in ("plain", "encrypted"):
            raise ValueError(f"bulk is {bulk!r}, expected 'plain' or 'encrypted'")
        if peers < 0:
            raise ValueError(f"peers is {peers}, expected 0 or more")
        self.bind = bind
        self.bulk_port = bulk_port if bulk == "plain" else None
        self.peers = peers if bulk == "plain" else 0
        self.heartbeat = heartbeat or Heartbeat()
        self._chosen = None if key_file is None else Path(key_file).absolute()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: Server | None = None

    @property
    def address(self) -> str:
        """The address to connect to, with the port that was taken.

        Raises:
            ExecutorError: no executor listens yet.
        """
        return self._opened().address

    @property
    def key_file(self) -> Path:
        """The file with the workers' key.

        Raises:
            ExecutorError: no executor listens yet.
        """
        return self._opened().key_file

    def open(self, loop: ManagerLoop, resident: Callable[[int], int]) -> None:
        """Listen, for the executor that `loop` belongs to.

        Args:
            loop: takes the nodes that join.
            resident: how many context processes a node of so many cores may keep.

        Raises:
            ExecutorError: the address cannot be bound, or another executor uses this object.
            KeyFileError: the key file cannot be written.
        """
        from envpack_executor.manager.server import Server

        if self._server is not None:
            raise ExecutorError("these nodes belong to another executor", "make a RemoteNodes for each")
        key_file = self._chosen
        if key_file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="envpack-key-")
            key_file = Path(self._folder.name) / "worker.key"
        try:
            self._server = Server(self.bind, key_file, self.heartbeat, loop, resident, self.bulk_port, self.peers)
        except BaseException:
            self._clean_up()
            raise
        loop.add_closer(self._close)

    def _opened(self) -> Server:
        if self._server is None:
            raise ExecutorError(
                "no executor listens for these nodes yet", "pass them to ContextExecutor(nodes=...) first"
            )
        return self._server

    def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
