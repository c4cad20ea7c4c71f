"""What an environment consists of, as a value: layers by digest, and the interpreter that they need.

Pure. `Manifest.canonical` gives the same bytes for the same environment on every machine; their sha256 is the id of the
environment.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args

from envpack.errors import ManifestFormatError

SCHEMA = 1
# Of an environment that brings its interpreter; an older envpack would lend it one.
INTERPRETER_SCHEMA = 2
# Of one with layers that do not hold all of their distributions; an older envpack would not say so.
TRIMMED_SCHEMA = 3

# Of `bytecode` are the compiled modules of a distribution whose sources are a layer of their own.
LayerKind = Literal["wheel", "conda", "editable", "local", "system", "bytecode", "interpreter"]

T = TypeVar("T")

_DIGEST = re.compile("[0-9a-f]{64}")
# They become parts of paths, and names of programs that are looked for.
_PYTHON = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_TAG = re.compile("[A-Za-z0-9_.-]{0,80}")
_MAX_NAME_CHARACTERS = 255


def canonical_json(value: object) -> bytes:
    """Return the one way in which a JSON value is written here: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, order=True)
class LayerRef:
    """One layer of an environment.

    Attributes:
        digest: sha256 (64 hexadecimal digits) of the layer's entry list.
        kind: where the files come from.
        name: normalized name of the distribution, or conda's name of the package; `local` for the user's own files.
        version: version of the distribution; empty where there is none.
        size_bytes: sum of the sizes of its files, unpacked.
        files: number of its files, folders and links.
        left_out_bytes: size of the files of the distribution that were left out; 0 if it is whole.
    """

    digest: str
    kind: LayerKind
    name: str
    version: str
    size_bytes: int
    files: int
    left_out_bytes: int = 0

    def __str__(self) -> str:
        what = " (bytecode)" if self.kind == "bytecode" else " (trimmed)" if self.left_out_bytes else ""
        return f"{self.name} {self.version}".rstrip() + what

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON data."""
        return {
            "digest": self.digest,
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "size_bytes": self.size_bytes,
            "files": self.files,
            **({"left_out_bytes": self.left_out_bytes} if self.left_out_bytes else {}),
        }

    @classmethod
    def from_dict(cls, data: object, where: str = "layer") -> LayerRef:
        """Read what `to_dict` gave.

        Raises:
            ManifestFormatError: a field is absent or has a wrong value.
        """
        kind = _typed(data, "kind", str, where)
        if kind not in get_args(LayerKind):
            raise ManifestFormatError(f"{where}.kind: {kind!r} met, one of {', '.join(get_args(LayerKind))} expected")
        return cls(
            digest=_digest(data, "digest", where),
            kind=cast(LayerKind, kind),
            name=_name(data, "name", where),
            version=_name(data, "version", where),
            size_bytes=_count(data, "size_bytes", where),
            files=_count(data, "files", where),
            left_out_bytes=_count(data, "left_out_bytes", where) if "left_out_bytes" in cast(Any, data) else 0,
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """An environment: its layers, and the interpreter and platform that it runs on.

    Attributes:
        python: version tag of the interpreter, such as `3.11`.
        implementation: such as `cpython`.
        abi: such as `cp311`.
        platform: such as `linux-x86_64`.
        layers: the layers, sorted.
        has_interpreter: whether a layer brings `bin/python`, so that the machine need not have a Python.
    """

    python: str
    implementation: str
    abi: str
    platform: str
    layers: tuple[LayerRef, ...]
    has_interpreter: bool = False
    _id: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(self.layers, key=lambda ref: (ref.name, ref.digest))))

    @property
    def schema(self) -> int:
        """The version of its form: the oldest that can say what it says."""
        if self.left_out_bytes:
            return TRIMMED_SCHEMA
        return INTERPRETER_SCHEMA if self.has_interpreter else SCHEMA

    @property
    def is_placed(self) -> bool:
        """Whether an environment made of it may have the path of its folder in its files."""
        return any(ref.kind == "conda" for ref in self.layers)

    @property
    def id(self) -> str:
        """The id of the environment: sha256 of the canonical bytes, as 64 hexadecimal digits."""
        if not self._id:
            self._id.append(hashlib.sha256(self.canonical()).hexdigest())
        return self._id[0]

    @property
    def size_bytes(self) -> int:
        """Size of all files of all layers, unpacked."""
        return sum(ref.size_bytes for ref in self.layers)

    @property
    def left_out_bytes(self) -> int:
        """Size of the files of its distributions that trimming has left out."""
        return sum(ref.left_out_bytes for ref in self.layers)

    def canonical(self) -> bytes:
        """Return the manifest as canonical JSON."""
        return canonical_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON data."""
        return {
            "schema": self.schema,
            "python": self.python,
            "implementation": self.implementation,
            "abi": self.abi,
            "platform": self.platform,
            "layers": [ref.to_dict() for ref in self.layers],
            **({"has_interpreter": True} if self.has_interpreter else {}),
        }

    @classmethod
    def from_dict(cls, data: object) -> Manifest:
        """Read what `to_dict` gave.

        Raises:
            ManifestFormatError: a field is absent or has a wrong value, or the schema is not known.
        """
        schema = _typed(data, "schema", int, "manifest")
        if schema not in (SCHEMA, INTERPRETER_SCHEMA, TRIMMED_SCHEMA):
            raise ManifestFormatError(
                f"manifest.schema: {schema} met, {SCHEMA}, {INTERPRETER_SCHEMA} or {TRIMMED_SCHEMA} expected",
                "read it with the envpack that wrote it",
            )
        layers = _typed(data, "layers", list, "manifest")
        return cls(
            python=_matching(data, "python", _PYTHON, "a version such as 3.11"),
            implementation=_matching(data, "implementation", _TAG, "a name such as cpython"),
            abi=_matching(data, "abi", _TAG, "a tag such as cp311"),
            platform=_matching(data, "platform", _TAG, "a tag such as linux-x86_64"),
            layers=tuple(
                LayerRef.from_dict(layer, f"manifest.layers[{position}]") for position, layer in enumerate(layers)
            ),
            has_interpreter=schema == INTERPRETER_SCHEMA or cast(Any, data).get("has_interpreter") is True,
        )


def _typed(data: object, key: str, kind: type[T], where: str) -> T:
    if not isinstance(data, Mapping):
        raise ManifestFormatError(f"{where}: {type(data).__name__} met, an object expected")
    if key not in data:
        raise ManifestFormatError(f"{where}.{key}: absent, {kind.__name__} expected")
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ManifestFormatError(f"{where}.{key}: {type(value).__name__} met, {kind.__name__} expected")
    return value


def _count(data: object, key: str, where: str) -> int:
    value = _typed(data, key, int, where)
    if value < 0:
        raise ManifestFormatError(f"{where}.{key}: {value} met, a number of at least 0 expected")
    return value


def _matching(data: object, key: str, pattern: re.Pattern[str], expected: str) -> str:
    value = _typed(data, key, str, "manifest")
    if pattern.fullmatch(value) is None:
        raise ManifestFormatError(f"manifest.{key}: {value[:80]!r} met, {expected} expected")
    return value


def _name(data: object, key: str, where: str) -> str:
    """Return a text that is shown to people; what controls their terminals is none."""
    value = _typed(data, key, str, where)
    if len(value) > _MAX_NAME_CHARACTERS or not value.isprintable():
        raise ManifestFormatError(f"{where}.{key}: {value[:80]!r} met, up to {_MAX_NAME_CHARACTERS} letters expected")
    return value


def _digest(data: object, key: str, where: str) -> str:
    value = _typed(data, key, str, where)
    if not is_digest(value):
        raise ManifestFormatError(f"{where}.{key}: {value[:80]!r} met, 64 hexadecimal digits expected")
    return value


def is_digest(text: str) -> bool:
    """Tell whether the text is a sha256 as it is written here, and so also safe as a file name."""
    return _DIGEST.fullmatch(text) is not None
