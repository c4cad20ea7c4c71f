"""A case: a small program with a peculiarity, how it is run, and the distributions that it was found to need."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """What `case.toml` says.

    `script` is relative to the case's folder; `module` stands instead where the program is run by `python -m`.
    `call` is the tuple of arguments, as source text, of a case that asks about a function.
    """

    name: str
    folder: Path
    category: str
    peculiarity: str
    script: str = ""
    module: str = ""
    arguments: tuple[str, ...] = ()
    function: str = ""
    call: str = "()"

    @property
    def kind(self) -> str:
        """`functions` or `scripts`: the two halves of the table."""
        return "functions" if self.function else "scripts"

    @property
    def target(self) -> Path:
        """The file or folder to ask a tool about."""
        return self.folder / (self.script or self.module.replace(".", "/"))


@dataclass(frozen=True, slots=True)
class Truth:
    """What running the case has shown; names are normalized.

    Attributes:
        needed: What a requirements file must name.
        optional: Neither right nor wrong: mentioned, but the program runs without.
        used: Of the closure of `needed`, what the program was seen to use.
    """

    needed: frozenset[str]
    optional: frozenset[str]
    used: frozenset[str]

    def to_toml(self) -> str:
        """Return the text of a truth file: one line per field, names sorted."""
        fields = (("needed", self.needed), ("optional", self.optional), ("used", self.used))
        return "# Written by truth.py.\n" + "".join(f"{name} = {json.dumps(sorted(names))}\n" for name, names in fields)

    @classmethod
    def from_dict(cls, fields: dict[str, Iterable[str]]) -> Truth:
        """Make a truth of the fields of its file."""
        return cls(*(frozenset(fields[name]) for name in ("needed", "optional", "used")))


def read_cases(folder: Path = CASES, only: Iterable[str] = ()) -> Iterator[Case]:
    """Yield the cases in `folder` by name; of those in `only`, if it names any."""
    wanted = set(only)
    for file in sorted(folder.glob("*/case.toml")):
        if not wanted or file.parent.name in wanted:
            fields = tomllib.loads(file.read_text(encoding="utf-8"))
            fields["arguments"] = tuple(fields.get("arguments", ()))
            yield Case(name=file.parent.name, folder=file.parent, **fields)


def read_truth(case: Case) -> Truth | None:
    """Return the truth of `case`, None where it has not been found yet."""
    file = case.folder / "truth.toml"
    return Truth.from_dict(tomllib.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
