"""`Allocation`: what is set aside for one call before it runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from envpack_monitor.fields import read_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What is set aside for one call; `None` where no promise is made.

    Args:
        memory_bytes: resident memory; a call that needs more is ended and retried with more.
        cores: processor cores, fractions allowed.
        wall_s: seconds after which the call may be taken for stuck.
        disk_bytes: room in the folder in which the call writes.
        gpu_memory_bytes: memory on GPUs.
        gpus: how many GPUs, or which share of one.
        attempt: 0 for the first allocation of a call, then 1 more for each retry.
    """

    schema: ClassVar[int] = 1

    memory_bytes: int | None = None
    cores: float = 1.0
    wall_s: float | None = None
    disk_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpus: float | None = None
    attempt: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold; what is not promised is left out."""
        return {"schema": self.schema, **{name: value for name, value in asdict(self).items() if value is not None}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Allocation:
        """Return the allocation that `to_dict` described.

        Raises:
            FormatError: a field is unknown or of a wrong type.
        """
        return read_fields(cls, data, "allocation")
