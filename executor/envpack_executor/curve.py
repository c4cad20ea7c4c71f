"""Keys: nobody joins without one. CURVE on every TCP socket, an allow-list of one key, a file with mode 600.

The manager makes two key pairs for each run: its own, whose secret half never leaves its memory, and one for its
workers, which it writes to a key file together with its public half. Whoever can read that file can join.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from envpack_executor.errors import KeyFileError
from envpack_executor.zeromq import Context, Socket, has_input

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_DOMAIN = b"envpack"


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """What a worker needs to join: the key file.

    Args:
        server_public: public key of the manager, Z85.
        public: public key of the workers, Z85.
        secret: their secret key, Z85.
    """

    server_public: str
    public: str
    secret: str

    def write(self, path: Path) -> None:
        """Write the key file, readable by its owner alone; an existing file is replaced.

        Raises:
            KeyFileError: it cannot be written.
        """
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"schema": 1, **asdict(self)}, file)
            os.replace(beside, path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise KeyFileError(f"key file {str(path)!r} cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> WorkerKey:
        """Read a key file.

        Raises:
            KeyFileError: there is none, others may read it, or it is not one.
        """
        try:
            mode = path.stat().st_mode
            data = json.loads(path.read_text())
        except OSError as error:
            raise KeyFileError(f"key file {str(path)!r} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise KeyFileError(
                f"{str(path)!r} is not a key file of envpack", "use the one that the executor wrote"
            ) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"key file {str(path)!r} may be read by others: mode {mode & 0o777:o}, expected 600", "chmod 600"
            )
        fields = {name: data.get(name) if isinstance(data, dict) else None for name in cls.__slots__}
        if not all(isinstance(value, str) and len(value) == 40 for value in fields.values()):
            raise KeyFileError(f"{str(path)!r} is no key file", "use the one that the executor wrote")
        return cls(**fields)  # type: ignore[arg-type]


class Guard:
    """The manager's half: its key pair, the workers' key, and who is let in.

    Args:
        context: of the socket that is guarded; ZeroMQ asks once per connection, inside this context.
    """

    def __init__(self, context: Context) -> None:
        self._public, self._secret = zmq.curve_keypair()
        worker_public, worker_secret = zmq.curve_keypair()
        self.worker_key = WorkerKey(self._public.decode(), worker_public.decode(), worker_secret.decode())
        self._allowed = z85.decode(worker_public)
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ZAP_ENDPOINT)

    def protect(self, socket: Socket) -> None:
        """Make `socket` a CURVE server that asks this guard about each peer; before it is bound."""
        socket.curve_server = True
        socket.curve_publickey = self._public
        socket.curve_secretkey = self._secret
        socket.zap_domain = _ZAP_DOMAIN

    def answer(self) -> None:
        """Answer the questions that are waiting, by ZeroMQ's authentication protocol (RFC 27)."""
        while has_input(self.socket):
            version, request, domain, _address, _identity, mechanism, *credentials = self.socket.recv_multipart()
            is_known = domain == _ZAP_DOMAIN and mechanism == b"CURVE" and credentials == [self._allowed]
            status = (b"200", b"OK") if is_known else (b"400", b"key not known")
            self.socket.send_multipart([version, request, *status, b"", b""])


def authenticate(socket: Socket, key: WorkerKey) -> None:
    """Make `socket` a CURVE client that trusts the manager of `key` alone; before it is connected."""
    socket.curve_serverkey = key.server_public.encode()
    socket.curve_publickey = key.public.encode()
    socket.curve_secretkey = key.secret.encode()
