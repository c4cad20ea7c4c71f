"""Hostile layers and packs in small numbers; `make fuzz-reader` hands over a million."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzzing import times
from tests.pack import fuzz_reader
from tests.pack.fuzz_reader import Arena, BrokenLawError
from tests.pack.hostile import hostile_foreign, hostile_layer, hostile_pack, hostile_plain


@pytest.mark.slow
def test_no_hostile_input_writes_outside_hangs_crashes_or_leaves_anything(tmp_path: Path) -> None:
    done, broken = fuzz_reader.run(1, range(times(2000)), tmp_path / "arena")
    assert broken == []
    ways = {way: sum(count for ending, count in done.items() if ending.startswith(way)) for way in WAYS}
    assert all(ways.values()), "each way to read was taken"
    assert all(done[f"{way}: taken"] < ways[way] for way in WAYS), "some were refused"
    assert done["extract: taken"], "and not all"
    assert done["unpack: taken"], "nor here"
    assert len({ending.partition(": ")[2] for ending in done}) > 50, "for many reasons"
    mismatches = sum(count for ending, count in done.items() if "DigestMismatch" in ending)
    assert mismatches < sum(done.values()) / 4, "digests are made right again, most get past them"


def try_some(arena: Arena) -> None:
    for number in range(60):
        arena.try_one(3, number)


WAYS = ("extract", "verify", "unpack", "import", "take_apart")


def test_the_same_seed_makes_the_same_inputs() -> None:
    for make in (hostile_layer, hostile_pack, hostile_plain, hostile_foreign):
        assert make(Random("1/2"), "/out") == make(Random("1/2"), "/out")
        assert len({str(make(Random(f"1/{number}"), "/out")) for number in range(20)}) > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("os.mkdir(arena.outside + '/evil')", "wrote beside the target"),
        ("os.mkdir(arena.target + '/../../evil')", "wrote beside the target"),
        ("os.mkdir('../evil', dir_fd=descriptor)", "wrote beside the target"),
        ("open(arena.outside + '/kept', 'w').close()", "wrote beside the target"),
        ("os.dup(descriptor)", "open descriptors"),
        ("os.mkdir(os.path.dirname(arena.target) + '/left')", "beside the target"),
        ("os.close(os.open('surplus', os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))", "on the disk"),
        ("while True: pass", "more than 0.2 s of CPU"),
        ("1 / 0", "division by zero"),
    ],
)
def test_a_reader_that_breaks_a_law_is_seen(
    change: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Arena(tmp_path / "arena")
    original = fuzz_reader.LayerReader.extract

    def extract(reader: fuzz_reader.LayerReader, descriptor: int, **options: bool) -> None:
        original(reader, descriptor, **options)
        exec(f"import os\n{change}", {"arena": arena, "descriptor": descriptor})

    monkeypatch.setattr(fuzz_reader, "CPU_LIMIT_S", 0.2)
    monkeypatch.setattr(fuzz_reader.LayerReader, "extract", extract)
    with pytest.raises((BrokenLawError, ZeroDivisionError), match=said):
        try_some(arena)
