"""The key of a context: what must be equal for two calls to share a warm process. Pure."""

from __future__ import annotations

import hashlib
import json
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
