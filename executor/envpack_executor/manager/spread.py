"""From whom each worker takes each layer: the client gives it away once, workers pass it on. Pure: no socket, no clock.

    worker ──NeedLayer──▶ who has it, or is receiving it, and has a hand free? ──TakeLayer──▶ worker
                              nobody has or receives it: the client
                              all who do are busy: the worker waits for the first who is not

Guarantees: the client is named only while no worker that can be reached has or receives the layer; a worker gives to no
more than `limit` at once, except to one whose source has failed (it may have others waiting behind it); nobody takes
from one who waits for it, at however many removes; what was asked for is answered, because every transfer ends: the
layer is there, given up, asked for anew, or its worker is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envpack_executor.messages import LayerAway, LayersHere, NeedLayer, NodeId, Sharing, TakeLayer

# The client, among the sources.
_CLIENT = NodeId("")
# A source so much further from the client is taken for as good as one with another receiver: a chain uses every link
# once, but whoever stands at its end waits for as many pieces as it has members.
_LONG_CHAIN = 8

FromSharing = Sharing | NeedLayer | LayersHere | LayerAway


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell `node` from whom to take a layer."""

    node: NodeId
    message: TakeLayer


class Spread:
    """Decides for all workers of a manager.

    Args:
        limit: to how many transfers a worker gives at once; 0 to take everything from the client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[NodeId, Sharing] = {}
        self._held: dict[str, set[NodeId]] = {}
        # By layer: who receives it, from whom.
        self._coming: dict[str, dict[NodeId, NodeId]] = {}
        # By layer: who waits, in the order in which they came. They have nothing of it yet, so nobody waits for them.
        self._waiting: dict[str, dict[NodeId, None]] = {}
        self._load: Counter[NodeId] = Counter()
        # (layer, receiver, source) that were tried in vain; without a layer: they do not reach each other.
        self._barred: set[tuple[str, NodeId, NodeId]] = set()

    def take(self, node: NodeId, message: FromSharing) -> list[Answer]:
        """Take what a worker says; return what others, or it, must be told."""
        match message:
            case Sharing():
                self._places[node] = message
                return []
            case LayersHere():
                return self._here(node, message.digests)
            case LayerAway():
                freed = self._forget(node, message.digest)
                return [*self._offer(freed), *self._settle_stranded()]
            case NeedLayer():
                return self._need(node, message)

    def lose(self, node: NodeId) -> list[Answer]:
        """Forget a worker. Those that took from it will say that it has failed them."""
        self._places.pop(node, None)
        self._load.pop(node, None)
        self._barred = {each for each in self._barred if node not in each[1:]}
        freed = [self._forget(node, digest) for digest in {**self._held, **self._coming, **self._waiting}]
        return [*self._offer(*freed), *self._settle_stranded()]

    def _here(self, node: NodeId, digests: Iterable[str]) -> list[Answer]:
        freed = [node]
        for digest in digests:
            freed.append(self._forget(node, digest))
            self._held.setdefault(digest, set()).add(node)
        return list(self._offer(*freed))

    def _need(self, node: NodeId, need: NeedLayer) -> list[Answer]:
        digest = need.digest
        freed = self._forget(node, digest)
        failed = NodeId(need.failed)
        if need.why == "cut":
            self._barred.add(("", node, failed))
        elif need.why == "gone":
            self._barred.add((digest, node, failed))
            self._held.get(digest, set()).discard(failed)
        answers = [*self._answer(node, digest, need.why), *self._offer(freed)]
        return [*answers, *self._settle_stranded()] if need.why else answers

    def _forget(self, node: NodeId, digest: str) -> NodeId:
        """Note that a worker neither has a layer nor receives it nor waits for it; return who gave it."""
        self._held.get(digest, set()).discard(node)
        self._stop_waiting(node, digest)
        coming = self._coming.get(digest, {})
        source = coming.pop(node, _CLIENT)
        if not coming:
            self._coming.pop(digest, None)
        if source in self._places:
            self._load[source] -= 1
        return source

    def _stop_waiting(self, node: NodeId, digest: str) -> None:
        waiting = self._waiting.get(digest, {})
        waiting.pop(node, None)
        if not waiting:
            self._waiting.pop(digest, None)

    # --- answers

    def _answer(self, node: NodeId, digest: str, why: str) -> Iterator[Answer]:
        """Name a source; or let the worker wait, if it is the first time that it asks."""
        sources = [] if why == "wrong" else self._sources(digest)
        able = [each for each in sources if self._can_give(each, node, digest)]
        if why:
            able = [each for each in able if node not in self._chain(each, digest)]
        free = [each for each in able if self._load[each] < self._limit]
        if able and not free and not why:
            self._waiting.setdefault(digest, {})[node] = None
            return
        source = min(free or able, key=lambda each: self._cost(each, digest), default=_CLIENT)
        yield self._begin(source, node, digest)
        yield from self._offer(node)

    def _offer(self, *sources: NodeId) -> Iterator[Answer]:
        """Let those who wait take from sources that have a hand free, or something to give that they had not."""
        offers = list(dict.fromkeys(sources))
        for source in offers:
            for digest in [digest for digest in self._waiting if self._has(source, digest)]:
                for node in list(self._waiting[digest]):
                    if self._load[source] < self._limit and self._can_give(source, node, digest):
                        self._stop_waiting(node, digest)
                        yield self._begin(source, node, digest)
                        offers.append(node)

    def _settle_stranded(self) -> Iterator[Answer]:
        """Answer those who waited for nobody else than one that is gone."""
        for digest, waiting in list(self._waiting.items()):
            for node in list(waiting):
                is_stranded = not any(self._can_give(each, node, digest) for each in self._sources(digest))
                if is_stranded and node in self._waiting.get(digest, ()):
                    self._stop_waiting(node, digest)
                    yield from self._answer(node, digest, "")

    def _begin(self, source: NodeId, node: NodeId, digest: str) -> Answer:
        self._coming.setdefault(digest, {})[node] = source
        if (place := self._places.get(source)) is None:
            return Answer(node, TakeLayer(digest))
        self._load[source] += 1
        return Answer(node, TakeLayer(digest, source, place.address, place.port))

    # --- who may give what to whom

    def _sources(self, digest: str) -> list[NodeId]:
        return [*self._held.get(digest, ()), *self._coming.get(digest, ())]

    def _has(self, source: NodeId, digest: str) -> bool:
        return source in self._held.get(digest, ()) or source in self._coming.get(digest, ())

    def _can_give(self, source: NodeId, node: NodeId, digest: str) -> bool:
        if not self._limit or source == node or source not in self._places:
            return False
        if self._barred and not self._barred.isdisjoint({("", node, source), (digest, node, source)}):
            return False
        return self._reaches(node, source)

    def _reaches(self, node: NodeId, source: NodeId) -> bool:
        """Tell whether an address means the same to both: one of the loopback interface is each machine's own."""
        there, here = self._places[source], self._places.get(node)
        return not there.is_loopback or (here is not None and here.is_loopback and here.machine == there.machine)

    def _chain(self, source: NodeId, digest: str) -> list[NodeId]:
        """Return from whom a source gets a layer itself, and so on, until one that has it."""
        coming = self._coming.get(digest, {})
        chain: list[NodeId] = []
        while source in coming:
            source = coming[source]
            chain.append(source)
        return chain

    def _cost(self, source: NodeId, digest: str) -> tuple[int, int]:
        far = len(self._chain(source, digest))
        return self._load[source] + far // _LONG_CHAIN, far
