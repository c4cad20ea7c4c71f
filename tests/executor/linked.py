"""A client and workers on hosts of their own, as programs: for the tests of links and the benchmark of packs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tests.executor.helpers import environ
from tests.executor.hosts import Hosts


class Run:
    """A client and some workers, each on its host.

    Args:
        net: the hosts; one of them is `client`.
        folder: for what they write; `site` in it is importable in the client.
        what: the client does, see `linked_client`.
        workers: on which hosts.
        peers: of its `RemoteNodes`.
    """

    def __init__(self, net: Hosts, folder: Path, what: str, workers: Sequence[str], peers: int = 4) -> None:
        self._net = net
        self._folder = folder
        numbers = [str(peers), str(len(workers))]
        words = ["-m", "tests.executor.linked_client", what, net.address("client"), str(folder), *numbers]
        self.client = self._start("client", words, site=folder / "site")
        address = self.heard()
        self.workers = {name: self._start(name, self._worker(name, address)) for name in workers}

    def _start(self, host: str, words: list[str], site: Path | None = None) -> subprocess.Popen[str]:
        environment = environ()
        if site is not None:
            environment["PYTHONPATH"] += f"{os.pathsep}{site}"
        with (self._folder / f"{host}.err").open("w") as errors:
            return subprocess.Popen(
                [*self._net.command(host), sys.executable, *words],
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def _worker(self, name: str, address: str) -> list[str]:
        options = ["--cores", "1", "--store", str(self._folder / f"store-{name}"), "--join-within", "5s"]
        key_file = str(self._folder / "worker.key")
        return ["-m", "envpack", "worker", "--connect", address, "--key", key_file, *options]

    def heard(self) -> str:
        """Return the next line of the client."""
        line = _pipe(self.client.stdout).readline().strip()
        assert line, self.said("client")
        return line

    def tell(self) -> None:
        """Say a word to the client."""
        _pipe(self.client.stdin).write("\n")
        _pipe(self.client.stdin).flush()

    def said(self, host: str) -> str:
        """Return what a program wrote to stderr."""
        return (self._folder / f"{host}.err").read_text()

    def end(self) -> None:
        """End what still runs."""
        for process in (self.client, *self.workers.values()):
            process.kill()
            process.communicate()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextlib.contextmanager
def running(net: Hosts, folder: Path, what: str, workers: Sequence[str], peers: int = 4) -> Iterator[Run]:
    """Start a client and workers, and end them."""
    run = Run(net, folder, what, workers, peers)
    try:
        yield run
    finally:
        run.end()
