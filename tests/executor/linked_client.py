"""An executor on a host of its own, for the tests of links: it says what happens, line by line, and waits for words.

    python -m tests.executor.linked_client pack|calls ADDRESS FOLDER PEERS WORKERS

`pack`: as many calls as there are workers need an environment with the ballast, and end when `release` is in the folder
or all have begun. `calls`: it makes short calls until it is told to stop, then waits for the end of each. The key file
lies in the folder.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from envpack import pack
from envpack_executor import ContextExecutor, Heartbeat, RemoteNodes
from tests.executor import ballast, functions
from tests.executor.helpers import wait_until

QUICK = Heartbeat(every_s=0.3, silence_s=3.0)
MOST_PENDING = 40


def say(*words: object) -> None:
    """Print a line for the test."""
    print(*words, flush=True)


def reach(nodes: RemoteNodes, folder: Path, workers: int) -> None:
    """Let all workers have a pack at once."""
    started, release = folder / "started", folder / "release"
    manifest = pack(ballast.weigh)
    with ContextExecutor(nodes=nodes, environment=manifest, history=None) as executor:
        say(nodes.address)
        wait_until(lambda: executor.stats().nodes == workers, "all workers have joined")
        say("joined")
        sys.stdin.readline()
        begun_s = time.monotonic()
        futures = [executor.submit(ballast.weigh, str(started), str(release)) for _ in range(workers)]
        if not release.exists():
            wait_until(lambda: len(list(folder.glob("started-*"))) == workers, "all have the pack", deadline_s=500)
            say(time.monotonic() - begun_s)
            release.touch()
        for future in futures:
            say(*future.result(500))


def call(nodes: RemoteNodes, workers: int) -> None:
    """Make short calls until told to stop; say how many have ended rightly, and what was lost."""
    with ContextExecutor(nodes=nodes, history=None) as executor:
        say(nodes.address)
        wait_until(lambda: executor.stats().nodes == workers, "all workers have joined")
        room, stop = threading.Semaphore(MOST_PENDING), threading.Event()
        futures: list[Future[int]] = []
        threading.Thread(target=wait_for_a_word, args=(stop,), daemon=True).start()
        while not stop.is_set():
            room.acquire()
            futures.append(executor.submit(functions.double_after, len(futures), 0.02))
            futures[-1].add_done_callback(lambda future: room.release())
            if len(futures) == 2 * MOST_PENDING:
                say("running")
        right = sum(future.result(100) == 2 * number for number, future in enumerate(futures))
        say(len(futures), right, executor.stats().nodes)


def wait_for_a_word(stop: threading.Event) -> None:
    """Wait until the test says something."""
    sys.stdin.readline()
    stop.set()


def main() -> None:
    """Do one of the two."""
    what, address, folder, peers, workers = sys.argv[1:]
    key_file = Path(folder) / "worker.key"
    nodes = RemoteNodes(f"tcp://{address}:0", key_file=key_file, heartbeat=QUICK, peers=int(peers))
    if what == "pack":
        reach(nodes, Path(folder), int(workers))
    else:
        call(nodes, int(workers))


if __name__ == "__main__":
    main()
