"""The large values of the client's own machine: its blobs are here already, its results come straight to the client."""

from __future__ import annotations

from collections.abc import Sequence

from envpack_executor.messages import ProcessId
from envpack_executor.process import kept
from envpack_executor.process.kept import Place
from envpack_executor.values.blobs import BLOBS


class LocalBlobs:
    """The client's blobs as its own node sees them; see `worker.blobs.NodeBlobs`."""

    def __init__(self) -> None:
        self._results: dict[ProcessId, set[str]] = {}

    def place(self, name: str) -> Place:
        """Return where a blob is; a call that is not over keeps it alive."""
        blob = BLOBS.live.get(name)
        return ("", 0, 0, "it was freed before it was needed") if blob is None else blob.place

    def fetch(self, name: str, size: int) -> None:
        """Do nothing: all are here."""

    def free(self, names: Sequence[str]) -> None:
        """Do nothing: they are freed with the last reference to them."""

    def take_result(self, process: ProcessId, name: str, size: int, descriptor: int) -> bool:
        """Keep a result until its outcome is unpickled, which happens in this thread before the next one comes."""
        mine = self._results.setdefault(process, set())
        mine.intersection_update(kept.arrivals)
        mine.add(name)
        kept.arrivals[name] = descriptor, size
        return False

    def send_result(self, name: str) -> None:
        """Do nothing: all are where they must be."""

    def forget_results(self, process: ProcessId) -> None:
        """Free the results of a process whose outcomes never came."""
        for name in self._results.pop(process, ()):
            kept.free_arrival(name)

    def close(self) -> None:
        """Free all results that nobody took."""
        for process in list(self._results):
            self.forget_results(process)
