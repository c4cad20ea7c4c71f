"""From whom layers are taken: each byte leaves the client once, sources are not overrun, and everybody gets theirs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from envpack_executor.manager.spread import Answer, Spread
from envpack_executor.messages import LayerAway, LayersHere, NeedLayer, NodeId, Sharing, TakeLayer
from tests.fuzzing import times

A, B, C, D = (NodeId(name) for name in "ABCD")


def place(node: str, address: str = "10.0.0.1", machine: str = "one") -> Sharing:
    return Sharing(f"{address}-{node}", 1, machine, is_loopback=address.startswith("127."))


def spread(*nodes: NodeId, limit: int = 2) -> Spread:
    made = Spread(limit)
    for node in nodes:
        assert made.take(node, place(node)) == []
    return made


def sources(answers: Iterable[Answer]) -> list[tuple[NodeId, str]]:
    return [(answer.node, answer.message.source) for answer in answers]


def test_the_client_gives_a_layer_to_the_first_and_who_receives_it_to_the_next() -> None:
    made = spread(A, B, C)
    assert made.take(A, NeedLayer("x")) == [Answer(A, TakeLayer("x"))]
    assert made.take(B, NeedLayer("x")) == [Answer(B, TakeLayer("x", A, "10.0.0.1-A", 1))]
    assert sources(made.take(C, NeedLayer("x"))) == [(C, B)], "whoever gives to nobody yet"


def test_who_has_a_layer_already_gives_it() -> None:
    made = spread(A, B)
    assert made.take(A, LayersHere(("x", "y"))) == []
    assert sources(made.take(B, NeedLayer("y"))) == [(B, A)]


def test_with_a_limit_of_none_everything_comes_from_the_client() -> None:
    made = spread(A, B, limit=0)
    assert sources([*made.take(A, NeedLayer("x")), *made.take(B, NeedLayer("x"))]) == [(A, ""), (B, "")]


def test_who_serves_nobody_gives_nothing() -> None:
    made = spread(B)
    made.take(A, LayersHere(("x",)))
    assert sources(made.take(B, NeedLayer("x"))) == [(B, "")]


def test_who_finds_all_busy_waits_for_the_first_who_is_not() -> None:
    made = spread(A, B, limit=1)
    made.take(A, LayersHere(("x", "y")))
    assert sources(made.take(B, NeedLayer("x"))) == [(B, A)]
    assert made.take(B, NeedLayer("y")) == []
    assert sources(made.take(B, LayersHere(("x",)))) == [(B, A)]


@pytest.mark.parametrize("end", [LayerAway("x"), None], ids=["given up", "lost"])
def test_who_waits_for_a_source_that_ends_is_answered(end: LayerAway | None) -> None:
    made = spread(A, B, C, limit=1)
    made.take(A, LayersHere(("x", "y")))
    made.take(B, NeedLayer("y"))
    assert made.take(C, NeedLayer("x")) == []
    assert sources(made.lose(A) if end is None else made.take(A, end)) == [(C, "")]


@pytest.mark.parametrize("why", ["cut", "gone"])
def test_a_source_that_failed_is_not_named_again(why: str) -> None:
    made = spread(A, B, C)
    made.take(A, LayersHere(("x", "y")))
    made.take(B, NeedLayer("x"))
    assert sources(made.take(B, NeedLayer("x", A, why))) == [(B, "")]  # type: ignore[arg-type]
    assert sources(made.take(B, NeedLayer("y"))) == [(B, "" if why == "cut" else A)]
    assert sources(made.take(C, NeedLayer("x"))) == [(C, A if why == "cut" else B)]


def test_what_was_not_the_layer_is_taken_from_the_client() -> None:
    made = spread(A, B)
    made.take(A, LayersHere(("x",)))
    made.take(B, NeedLayer("x"))
    assert sources(made.take(B, NeedLayer("x", why="wrong"))) == [(B, "")]


def test_nobody_takes_from_one_who_waits_for_it() -> None:
    made = spread(A, B, C)
    for node in (A, B, C):
        made.take(node, NeedLayer("x"))  # A from the client, B from A, C from B
    assert sources(made.take(A, NeedLayer("x", "", "wrong"))) == [(A, "")]
    assert sources(made.take(A, NeedLayer("x", "D", "cut"))) == [(A, "")], "B and C wait for it"


def test_an_address_of_the_loopback_interface_is_for_the_same_machine() -> None:
    made = Spread(2)
    for node, address, machine in ((A, "127.0.0.1", "one"), (B, "127.0.0.1", "one"), (C, "127.0.0.1", "two")):
        made.take(node, place(node, address, machine))
    made.take(D, place(D, "10.0.0.4", "one"))
    made.take(A, LayersHere(("x", "y", "z")))
    assert sources(made.take(B, NeedLayer("x"))) == [(B, A)]
    assert sources(made.take(C, NeedLayer("y"))) == [(C, "")]
    assert sources(made.take(D, NeedLayer("z"))) == [(D, "")]


class Cluster:
    """Workers that want layers, and do what the answers say; they finish, fail and die in any order."""

    def __init__(self, seed: int, *, is_calm: bool) -> None:
        self.random = random.Random(seed)
        self.is_calm = is_calm
        self.limit = self.random.randint(1, 3)
        self.spread = Spread(self.limit)
        self.layers = [f"layer{number}" for number in range(self.random.randint(1, 6))]
        self.here: dict[NodeId, set[str]] = {}
        self.coming: dict[tuple[NodeId, str], NodeId] = {}
        self.asked: set[tuple[NodeId, str]] = set()
        self.given: Counter[str] = Counter()
        for number in range(self.random.randint(2, 8)):
            node = NodeId(f"node{number}")
            self.here[node] = set()
            self.spread.take(node, place(node))
        self.wanted = [(node, layer) for node in self.here for layer in self.layers]
        self.random.shuffle(self.wanted)

    def run(self) -> None:
        while steps := list(self.steps()):
            kind, node, layer = self.random.choice(steps)
            self.obey(getattr(self, kind)(node, layer))
            self.check()
        assert all(here == set(self.layers) for here in self.here.values()), "all have all"
        assert not self.coming
        assert not self.asked

    def steps(self) -> Iterator[tuple[str, NodeId, str]]:
        yield from (("want", *each) for each in self.wanted[:1])
        for (node, layer), source in self.coming.items():
            if not source or layer in self.here.get(source, ()):
                yield ("finish", node, layer)
            if source and (source not in self.here or not self.is_calm):
                yield ("fail", node, layer)
            if not self.is_calm:
                yield ("forge", node, layer)
        if not self.is_calm and len(self.here) > 1:
            yield ("die", self.random.choice(list(self.here)), "")

    def want(self, node: NodeId, layer: str) -> list[Answer]:
        self.wanted.pop(0)
        return self.ask(node, NeedLayer(layer)) if node in self.here else []

    def ask(self, node: NodeId, need: NeedLayer) -> list[Answer]:
        self.asked.add((node, need.digest))
        return self.spread.take(node, need)

    def finish(self, node: NodeId, layer: str) -> list[Answer]:
        del self.coming[node, layer]
        self.here[node].add(layer)
        return self.spread.take(node, LayersHere((layer,)))

    def fail(self, node: NodeId, layer: str) -> list[Answer]:
        source = self.coming.pop((node, layer))
        why = self.random.choice(["cut", "gone"])
        return self.ask(node, NeedLayer(layer, source, why))  # type: ignore[arg-type]

    def forge(self, node: NodeId, layer: str) -> list[Answer]:
        self.coming.pop((node, layer))
        return self.ask(node, NeedLayer(layer, why="wrong"))

    def die(self, node: NodeId, layer: str) -> list[Answer]:
        del self.here[node]
        self.coming = {key: source for key, source in self.coming.items() if key[0] != node}
        self.asked = {key for key in self.asked if key[0] != node}
        return self.spread.lose(node)

    def obey(self, answers: list[Answer]) -> None:
        for answer in answers:
            key = answer.node, answer.message.digest
            assert key in self.asked, "nobody is told what it has not asked"
            self.asked.remove(key)
            self.coming[key] = NodeId(answer.message.source)
            self.given[answer.message.digest] += not answer.message.source

    def check(self) -> None:
        for node, layer in self.coming:
            seen = {node}
            source = self.coming[node, layer]
            while source and layer not in self.here.get(source, {layer}):
                assert source not in seen, "nobody waits for itself"
                seen.add(source)
                source = self.coming.get((source, layer), NodeId(""))
        if self.is_calm:
            load = Counter(source for source in self.coming.values() if source)
            assert not load or max(load.values()) <= self.limit
            assert all(count == 1 for count in self.given.values()), "the client gives each layer once"


@pytest.mark.parametrize("seed", range(times(60)))
def test_all_get_all_layers_and_the_client_gives_each_once(seed: int) -> None:
    Cluster(seed, is_calm=True).run()


@pytest.mark.parametrize("seed", range(times(60)))
def test_all_who_live_get_all_layers_whatever_fails(seed: int) -> None:
    Cluster(seed, is_calm=False).run()
