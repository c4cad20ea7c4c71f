"""What is said on the bulk channel: requests of one fixed size, pieces with keyed digests. Values, and their bytes.

Guarantees: before a request has shown that it was made with the token, nothing but its fixed size is read; no length is
believed before its digest was looked at, and none is above `PIECE_BYTES`. A piece that was recorded answers no other
request, because each request brings a number of its own into all digests.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from envpack_executor.errors import BulkError

PIECE_BYTES = 8 << 20
# Of layers: whoever receives one passes on the pieces that it has, so the smaller they are, the sooner.
LAYER_PIECE_BYTES = 1 << 20
_STEP_BYTES = 1 << 20
_DIGEST_BYTES = 32
_MAGIC = b"EPB1"
_NAME_BYTES = 80
_BODY = struct.Struct(f"<4sB{_NAME_BYTES}sQQ16s")
_HEAD = struct.Struct("<QQ")
REQUEST_BYTES = _BODY.size + _DIGEST_BYTES
NOT_HERE = (1 << 64) - 1
NOT_YET = NOT_HERE - 1


class Kind(enum.IntEnum):
    """What a request is about."""

    LAYER = 1
    VALUE = 2
    RESULT = 3

    @property
    def piece_bytes(self) -> int:
        """How large its pieces are; the last one is smaller."""
        return LAYER_PIECE_BYTES if self is Kind.LAYER else PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Request:
    """One piece, asked for or (of a result) announced.

    Args:
        kind: of what.
        name: its digest or name.
        offset: of the piece, in bytes.
        length: of the piece in bytes, at most `PIECE_BYTES`; of a layer or value, less may come.
        nonce: makes the digests of this exchange unlike all others.
    """

    kind: Kind
    name: str
    offset: int
    length: int
    nonce: bytes

    @classmethod
    def new(cls, kind: Kind, name: str, offset: int, length: int) -> Request:
        """Return a request that was never made before."""
        return cls(kind, name, offset, length, os.urandom(16))

    def encode(self, token: bytes) -> bytes:
        """Return its bytes."""
        name = self.name.encode()
        if len(name) > _NAME_BYTES:
            raise BulkError(f"name of {len(name)} bytes, expected at most {_NAME_BYTES}")
        body = _BODY.pack(_MAGIC, self.kind, name, self.offset, self.length, self.nonce)
        return body + digest(token, body)

    @classmethod
    def decode(cls, data: bytes, token: bytes) -> Request | None:
        """Return the request in `data`, or None if it was not made with `token`."""
        body, given = data[: _BODY.size], data[_BODY.size :]
        if not hmac.compare_digest(given, digest(token, body)):
            return None
        magic, kind, name, offset, length, nonce = _BODY.unpack(body)
        if magic != _MAGIC or kind not in list(Kind) or length > PIECE_BYTES:
            return None
        return cls(Kind(kind), name.rstrip(b"\0").decode(errors="replace"), offset, length, nonce)


def digest(token: bytes, *parts: bytes) -> bytes:
    """Return the keyed digest of some bytes."""
    state = hashlib.blake2b(key=token, digest_size=_DIGEST_BYTES)
    for part in parts:
        state.update(part)
    return state.digest()


def send_head(connection: socket.socket, request: Request, token: bytes, total: int, length: int) -> None:
    """Answer a request: how large the whole is, and how long the piece that follows.

    Instead of a size, `NOT_HERE`: it is not here; `NOT_YET`: the piece is on its way here, ask again.
    """
    head = _HEAD.pack(total, length)
    connection.sendall(head + digest(token, request.nonce, head))


def receive_head(connection: socket.socket, request: Request, token: bytes) -> tuple[int, int]:
    """Return the size of the whole and of the piece.

    Raises:
        BulkError: the answer is not one to this request.
    """
    data = receive_exactly(connection, _HEAD.size + _DIGEST_BYTES)
    head = data[: _HEAD.size]
    total, length = _HEAD.unpack(head)
    if not hmac.compare_digest(data[_HEAD.size :], digest(token, request.nonce, head)) or length > request.length:
        raise BulkError("answer with a wrong digest")
    return total, length


def send_piece(connection: socket.socket, request: Request, token: bytes, length: int, read: Read) -> None:
    """Send a piece and its digest; `read(offset, size)` returns bytes of it."""
    state = hashlib.blake2b(request.nonce, key=token, digest_size=_DIGEST_BYTES)
    for start in range(0, length, _STEP_BYTES):
        data = read(request.offset + start, min(_STEP_BYTES, length - start))
        connection.sendall(data)
        state.update(data)
    connection.sendall(state.digest())


def receive_piece(connection: socket.socket, request: Request, token: bytes, length: int, write: Write) -> None:
    """Receive a piece; `write(offset, bytes)` takes it, also before it is known to be right.

    Raises:
        BulkError: its digest is wrong, or it did not come whole.
    """
    state = hashlib.blake2b(request.nonce, key=token, digest_size=_DIGEST_BYTES)
    buffer = memoryview(bytearray(min(_STEP_BYTES, length)))
    done = 0
    while done < length:
        count = connection.recv_into(buffer[: length - done])
        if not count:
            raise BulkError("the other end hung up in the middle of a piece")
        state.update(buffer[:count])
        write(request.offset + done, buffer[:count])
        done += count
    if not hmac.compare_digest(receive_exactly(connection, _DIGEST_BYTES), state.digest()):
        raise BulkError("piece with a wrong digest")


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes.

    Raises:
        BulkError: there are not so many.
    """
    data = bytearray()
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise BulkError("the other end hung up")
        data += more
    return bytes(data)


Read = Callable[[int, int], bytes | memoryview]
Write = Callable[[int, memoryview], None]
