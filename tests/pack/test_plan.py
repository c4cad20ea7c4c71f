"""What a collection decides to take."""

from envpack.pack.store.plan import Part, plan

A, B = "a" * 64, "b" * 64
ONE, TWO = "1" * 64, "2" * 64
ONE_READY, TWO_READY = f"{ONE[:32]}-00000000", f"{TWO[:32]}-00000000"

# Two environments: the first was last used at 10 and has layer A, the second at 20 and has both. Only the first was
# made; its files are those of the layer (inode 1).
STORE = (
    Part("file", A, "a", 5, {11: 100}),
    Part("file", B, "b", 5, {12: 200}),
    Part("layer", A, "a", 5, {1: 1000}),
    Part("environment", ONE_READY, "one", 10, {1: 1000, 2: 10}),
    Part("manifest", ONE, "one", 5, {21: 1}, (A,)),
    Part("manifest", TWO, "two", 20, {22: 1}, (A, B)),
)


def gone(held: dict[str, bool] | None = None, **limits: float) -> list[tuple[str, str, int]]:
    return [
        (removal.part.kind, removal.part.label, removal.freed_bytes)
        for removal in plan(STORE, held or {}, **limits).removals
    ]


ALL_IN_ORDER = [
    ("environment", "one", 10),
    ("manifest", "one", 1),
    ("file", "a", 100),
    ("manifest", "two", 1),
    ("layer", "a", 1000),
    ("file", "b", 200),
]


def test_nothing_goes_that_is_young_and_fits() -> None:
    assert gone(max_size_bytes=1312, unused_since_s=10) == []


def test_what_was_used_longest_ago_goes_first_and_nothing_before_what_needs_it() -> None:
    assert gone(max_size_bytes=0) == ALL_IN_ORDER
    assert gone(unused_since_s=21) == ALL_IN_ORDER


def test_collection_ends_when_the_store_is_small_enough() -> None:
    assert gone(max_size_bytes=1302) == ALL_IN_ORDER[:1]
    assert gone(max_size_bytes=1300) == ALL_IN_ORDER[:3]


def test_what_a_younger_environment_needs_is_as_young() -> None:
    assert gone(unused_since_s=15) == ALL_IN_ORDER[:2]


def test_environment_in_use_keeps_its_layers_and_gives_up_only_their_files() -> None:
    in_use = {ONE_READY: False}
    assert gone(in_use, max_size_bytes=0) == [("manifest", "two", 1), ("file", "b", 200), ("file", "a", 100)]
    assert gone(in_use, unused_since_s=15) == []


def test_layer_that_is_needed_as_a_file_keeps_it() -> None:
    assert ("file", "a", 100) not in gone({A: True}, max_size_bytes=0)
    assert ("file", "a", 100) in gone({A: False}, max_size_bytes=0)
    assert ("layer", "a", 1000) not in gone({A: False}, max_size_bytes=0)


def test_files_that_are_linked_count_once() -> None:
    answer = plan(STORE, {}, max_size_bytes=0)
    assert (answer.before_bytes, answer.after_bytes) == (1312, 0)
    assert sum(removal.freed_bytes for removal in answer.removals) == 1312
