"""What the tests of Parsl's executor send by name: workers import it."""

from __future__ import annotations

import json
import os
from typing import Any

from parsl.serialize.base import SerializerBase


def load(start: int) -> dict[str, int]:
    return {"offset": start, "process": os.getpid()}


class Backwards(SerializerBase):  # type: ignore[misc]
    """What JSON can hold travels backwards, everything else not at all."""

    def serialize(self, data: Any) -> bytes:
        return json.dumps(data)[::-1].encode()

    def deserialize(self, body: bytes) -> Any:
        return json.loads(body.decode()[::-1])
