"""The key of a context: what must be equal for two calls to share a warm process. Pure."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Context:
    """What a context is made of, by content.

    Args:
        environment: `inherit`, `prefix:PATH`, `manifest:ID`, or `auto:DIGEST` for the environment that is discovered
            for the function with that digest.
        initializer: sha256 of the pickled initializer of the executor and its arguments; empty without one.
        setup: sha256 of the pickled set-up function and its arguments; empty without one.
        mode: `warm` (calls follow each other in the process, or in its children) or `fresh` (one call a process).
        resources: what each of its processes takes of its node while it works, as JSON; empty for a slot.
    """

    schema: ClassVar[int] = 1

    environment: str
    initializer: str
    setup: str
    mode: str
    resources: str = ""

    @property
    def key(self) -> str:
        """The sha256 of the canonical form, in hexadecimal: equal contexts are one."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold."""
        return {"schema": self.schema, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Context:
        """Return the context that `to_dict` described.

        Raises:
            ValueError: the schema is another, or a field is missing or unknown.
        """
        fields = dict(data)
        schema = fields.pop("schema", None)
        if schema != cls.schema or set(fields) != set(cls.__slots__):
            raise ValueError(f"not a context of schema {cls.schema}: {dict(data)!r}")
        return cls(**fields)


def bytes_of_equals(value: Any, otherwise: bytes) -> bytes:
    """Return bytes that are the same for equal values, where an ordinary pickle tells equal from identical parts.

    Args:
        value: of which only what is made of plain types is looked into; a list or dictionary that occurs twice in it
            is no plain tree.
        otherwise: the pickle of any other value.
    """
    if not _is_tree(value, set()):
        return otherwise
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.fast = True  # without the memo, in which parts that are one object are told from parts that are equal
    pickler.dump(value)
    return buffer.getvalue()


def _is_tree(value: Any, seen: set[int]) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind not in (tuple, list, dict):
        return False
    if kind is not tuple:
        if id(value) in seen:
            return False
        seen.add(id(value))
    return all(_is_tree(item, seen) for item in (itertools.chain(*value.items()) if kind is dict else value))


_ATOMS = frozenset({str, bytes, int, float, complex, bool, type(None)})
