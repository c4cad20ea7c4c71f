"""`Limits`: how much one call or command may use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from envpack_monitor.errors import FormatError
from envpack_monitor.fields import read_fields
from envpack_monitor.units import parse_bytes, parse_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one call or command may use; `None` is no limit.

    Args:
        memory_bytes: resident memory of the whole process tree.
        wall_s: seconds from start to end.
        cpu_s: processor seconds of the whole tree.
        disk_bytes: bytes in the measured folder.
        processes: processes alive at once.
    """

    schema: ClassVar[int] = 1

    memory_bytes: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    disk_bytes: int | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        problems = [f"{name}: more than 0 expected, {value} met" for name, value in self._all() if value <= 0]
        if problems:
            raise FormatError(f"limits: {'; '.join(problems)}")

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Return the limits that a text such as `memory=2GB,wall=60s` names.

        Args:
            text: `RESOURCE=VALUE` pairs between commas. Resources: `memory`, `wall`, `cpu`, `disk`, `processes`. Sizes
                take decimal and binary units (`MB`, `MiB`), times `s`, `min`, `h`.

        Raises:
            FormatError: with everything in the text that is wrong.
        """
        values: dict[str, Any] = {}
        problems = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            resource, equals, value = part.partition("=")
            if resource.strip() not in _PARSERS or not equals:
                problems.append(f"{part!r} is not RESOURCE=VALUE with one of {', '.join(_PARSERS)}")
                continue
            field, parse = _PARSERS[resource.strip()]
            try:
                values[field] = parse(value)
            except ValueError as error:
                problems.append(f"{resource.strip()}: {error}")
        if problems or not values:
            raise FormatError(f"limits: {'; '.join(problems) or 'nothing in ' + repr(text)}", "memory=2GB,wall=60s")
        return cls(**values)

    def exceeded_by(self, **measured: float | None) -> Iterator[tuple[str, float, float]]:
        """Yield (resource, allowed, measured) for every measured field that is above its limit.

        Args:
            measured: figures by the names of this class's fields; `None` is not compared.
        """
        for field, allowed in self._all():
            value = measured.get(field)
            if value is not None and value > allowed:
                yield RESOURCES[field], allowed, value

    def to_dict(self) -> dict[str, Any]:
        """Return an object that JSON can hold; what is not limited is left out."""
        return {"schema": self.schema, **dict(self._all())}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """Return the limits that `to_dict` described.

        Raises:
            FormatError: a field is unknown, of a wrong type or not positive.
        """
        return read_fields(cls, data, "limits")

    def _all(self) -> Iterator[tuple[str, float]]:
        return ((name, value) for name, value in asdict(self).items() if value is not None)


def measured_fields(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of a usage under the names of the limits that they are compared with."""
    cpu_s = figures.get("cpu_user_s", 0.0) + figures.get("cpu_system_s", 0.0)
    names = {"memory_bytes": "peak_memory_bytes", "processes": "processes_max"}
    measured = {field: figures.get(names.get(field, field)) for field in RESOURCES}
    return measured | {"cpu_s": cpu_s}


def _parse_count(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"{text.strip()!r} is not a whole number")
    return int(text)


_PARSERS: dict[str, tuple[str, Callable[[str], float]]] = {
    "memory": ("memory_bytes", parse_bytes),
    "wall": ("wall_s", parse_seconds),
    "cpu": ("cpu_s", parse_seconds),
    "disk": ("disk_bytes", parse_bytes),
    "processes": ("processes", _parse_count),
}

RESOURCES = {field: resource for resource, (field, _) in _PARSERS.items()}
"""The name of a resource, as people write it, by the field that limits it."""
