"""The answer of discovery as values: what a function or script needs, and why.

Pure: nothing here reads a file or asks an interpreter. `Dependencies.to_dict` gives the documented JSON object and
`Dependencies.from_dict` reads it back, checking every field and naming the place that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envpack.errors import BrokenTargetsError, DependenciesFormatError, ModuleNotInstalledError, RunFailedError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from envpack.discover.kinds import EvidenceKind, Role, Source, UnresolvedKind

    T = TypeVar("T")

SCHEMA = 1


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """Where something was found.

    Attributes:
        file: absolute path of the source file.
        line: line in it, counted from 1; 0 where the finding belongs to no line.
        kind: how sure the finding is: `static`, `conditional` (under a condition that could not be decided),
            `optional` (the code goes on without it), `dynamic` (folded from constants), `runtime` (the live object,
            or a traced run),
            `included` (asked for by the caller), `hidden` (a library imports it because of what is called here),
            `declared` (in the script's own metadata, PEP 723).
        module: the module that is imported there; for `included` and `declared` the name of the distribution.
    """

    file: str
    line: int
    kind: EvidenceKind
    module: str

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as JSON data."""
        return {"file": self.file, "line": self.line, "kind": self.kind, "module": self.module}

    @classmethod
    def from_dict(cls, data: object, where: str = "evidence") -> Evidence:
        """Read what `to_dict` gave."""
        fields = _Fields(data, where)
        kind = fields.choice("kind", "EvidenceKind")
        return cls(fields.text("file"), fields.number("line"), kind, fields.text("module"))


@dataclass(frozen=True, slots=True, order=True)
class Unresolved:
    """Something that could not be decided, and what to do about it.

    Attributes:
        module: the module asked for, or an empty string where not even that is known.
        file: absolute path of the source file that asks.
        line: line in it, counted from 1.
        kind: `missing` (imported, not installed), `conditional` (not installed, imported under a condition that could
            not be decided), `dynamic` (the name is computed at run time), `source` (a file that could not be read;
            without a module it is one of several targets), `requirement` (a distribution's own requirement is not
            installed), `run` (a traced run failed), `uncalled` (it did not call the function), `verification` (the
            program does not run with nothing but the answer).
        hint: what to pass to settle it.
    """

    module: str
    file: str
    line: int
    kind: UnresolvedKind
    hint: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"module": self.module, "file": self.file, "line": self.line, "kind": self.kind, "hint": self.hint}

    @classmethod
    def from_dict(cls, data: object, where: str = "unresolved") -> Unresolved:
        """Read what `to_dict` gave."""
        fields = _Fields(data, where)
        kind = fields.choice("kind", "UnresolvedKind")
        return cls(fields.text("module"), fields.text("file"), fields.number("line"), kind, fields.text("hint"))


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution that is needed.

    Attributes:
        name: normalized name.
        version: installed version.
        role: `direct` (imported by the code), `hidden` (imported by a library because of how the code calls it),
            `optional` (used where it is there, not needed) or `transitive` (required by another one).
        required_by: normalized names of the distributions of this answer that require it.
        source: what installed it.
        evidence: where the code imports it; empty for `transitive`, unless a library also
            imports it because of how the code calls it.
        size_bytes: bytes of its installed files, without bytecode.
        extras: the extras that were asked for by name, sorted.
        url: where to install it from if no index gave it, as a direct reference (PEP 508); empty otherwise.
    """

    name: str
    version: str
    role: Role
    required_by: tuple[str, ...]
    source: Source
    evidence: tuple[Evidence, ...]
    size_bytes: int = 0
    extras: tuple[str, ...] = ()
    url: str = ""

    @property
    def requirement(self) -> str:
        """The line that asks an installer for exactly this: `name[extra]==version`, or `name @ url`."""
        name = f"{self.name}[{','.join(self.extras)}]" if self.extras else self.name
        return f"{name} @ {self.url}" if self.url else f"{name}=={self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return the distribution as JSON data."""
        return {
            "name": self.name,
            "version": self.version,
            "role": self.role,
            "required_by": list(self.required_by),
            "source": self.source,
            "evidence": [item.to_dict() for item in self.evidence],
            "size_bytes": self.size_bytes,
            "extras": list(self.extras),
            "url": self.url,
        }

    @classmethod
    def from_dict(cls, data: object, where: str = "distribution") -> Distribution:
        """Read what `to_dict` gave."""
        fields = _Fields(data, where)
        return cls(
            name=fields.text("name"),
            version=fields.text("version"),
            role=fields.choice("role", "Role"),
            required_by=fields.texts("required_by"),
            source=fields.choice("source", "Source"),
            evidence=fields.objects("evidence", Evidence.from_dict),
            # Not in answers that were kept before they were introduced.
            size_bytes=fields.number("size_bytes", default=0),
            extras=fields.texts("extras", default=[]),
            url=fields.text("url", default=""),
        )


@dataclass(frozen=True, slots=True)
class FunctionDependencies:
    """What one function (or the whole script, `name` empty) needs.

    Attributes:
        name: qualified name of the function; an empty string for a whole script; with the path for several targets.
        modules: the modules outside the standard library that its code imports.
        distributions: names of its closure: the distributions to install so that it runs.
        local_files: absolute paths of the local files to ship.
        unresolved: what could not be decided about it.
        evidence: where its own code imports them.
    """

    name: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    local_files: tuple[str, ...]
    unresolved: tuple[Unresolved, ...]
    evidence: tuple[Evidence, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "name": self.name,
            "modules": list(self.modules),
            "distributions": list(self.distributions),
            "local_files": list(self.local_files),
            "unresolved": [item.to_dict() for item in self.unresolved],
            "evidence": [item.to_dict() for item in self.evidence],
        }

    @classmethod
    def from_dict(cls, data: object, where: str = "function") -> FunctionDependencies:
        """Read what `to_dict` gave."""
        fields = _Fields(data, where)
        return cls(
            name=fields.text("name"),
            modules=fields.texts("modules"),
            distributions=fields.texts("distributions"),
            local_files=fields.texts("local_files"),
            unresolved=fields.objects("unresolved", Unresolved.from_dict),
            evidence=fields.objects("evidence", Evidence.from_dict, default=[]),
        )


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a target needs to run elsewhere, with the reason for each part.

    Attributes:
        target: what was analysed, as it was named.
        python: version of the asked interpreter, such as `3.11.7`.
        platform: its platform, such as `linux-x86_64`.
        functions: one entry per function; a single one with an empty name for a whole script. For several targets
            the names say which: `path/script.py` or `path/script.py:function`.
        distributions: the closure over all functions, sorted by name.
        local_files: absolute paths of all local files to ship.
        local_roots: the folders from which they are importable; the path of a local file in an archive is its path
            relative to the longest root that holds it.
        unresolved: everything that could not be decided.
        local_evidence: for each of `local_files`, in their order, where it is imported first.
        verified: whether the target was run with nothing but this answer, and ended as it did in the whole environment.
    """

    target: str
    python: str
    platform: str
    functions: tuple[FunctionDependencies, ...]
    distributions: tuple[Distribution, ...]
    local_files: tuple[str, ...]
    local_roots: tuple[str, ...]
    unresolved: tuple[Unresolved, ...]
    local_evidence: tuple[Evidence, ...] = ()
    verified: bool = False

    @property
    def missing(self) -> tuple[Unresolved, ...]:
        """The modules that are certainly imported and not installed."""
        return tuple(item for item in self.unresolved if item.kind == "missing")

    @property
    def broken(self) -> tuple[Unresolved, ...]:
        """The files among several targets that could not be read or parsed; the others have been answered."""
        return tuple(item for item in self.unresolved if item.kind == "source" and not item.module)

    def raise_broken(self) -> None:
        """Refuse an answer that leaves out some of the targets.

        Raises:
            BrokenTargetsError: some could not be read or parsed; all of them are named, with line and caret.
        """
        if self.broken:
            raise BrokenTargetsError([(item.file, item.line, item.hint) for item in self.broken])

    def raise_missing(self) -> None:
        """Refuse an answer that cannot run.

        Raises:
            ModuleNotInstalledError: a module that the code imports is not installed; all of them are named.
        """
        if self.missing:
            raise ModuleNotInstalledError([(item.module, item.file, item.line) for item in self.missing])

    def raise_failed(self) -> None:
        """Refuse an answer whose traced run or verification went wrong.

        Raises:
            RunFailedError: the run failed, or fails with nothing but the answer.
        """
        failed = [item for item in self.unresolved if item.kind in ("run", "verification")]
        if failed:
            raise RunFailedError("; ".join(f"{item.file}: {item.hint}" for item in failed))

    def requirements(self) -> tuple[str, ...]:
        """Return pinned requirement lines for what the code itself needs: the direct and the hidden distributions."""
        return tuple(item.requirement for item in self.distributions if item.role in ("direct", "hidden"))

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as the documented JSON object."""
        return {
            "schema": SCHEMA,
            "target": self.target,
            "python": self.python,
            "platform": self.platform,
            "functions": [item.to_dict() for item in self.functions],
            "distributions": [item.to_dict() for item in self.distributions],
            "local_files": list(self.local_files),
            "local_roots": list(self.local_roots),
            "unresolved": [item.to_dict() for item in self.unresolved],
            "local_evidence": [item.to_dict() for item in self.local_evidence],
            "verified": self.verified,
        }

    @classmethod
    def from_dict(cls, data: object) -> Dependencies:
        """Read what `to_dict` gave.

        Raises:
            DependenciesFormatError: a field is absent or of the wrong type, or the schema is not known.
        """
        fields = _Fields(data, "dependencies")
        schema = fields.number("schema")
        if schema != SCHEMA:
            raise DependenciesFormatError(f"dependencies.schema: {schema} met, {SCHEMA} expected")
        return cls(
            target=fields.text("target"),
            python=fields.text("python"),
            platform=fields.text("platform"),
            functions=fields.objects("functions", FunctionDependencies.from_dict),
            distributions=fields.objects("distributions", Distribution.from_dict),
            local_files=fields.texts("local_files"),
            local_roots=fields.texts("local_roots"),
            unresolved=fields.objects("unresolved", Unresolved.from_dict),
            local_evidence=fields.objects("local_evidence", Evidence.from_dict),
            verified=fields.flag("verified"),
        )


class _Fields:
    """Typed access to the fields of one JSON object; an error names the path inside the whole."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise DependenciesFormatError(f"{where}: {type(data).__name__} met, an object expected")
        self._data = data
        self._where = where

    def text(self, key: str, default: str | None = None) -> str:
        return self._typed(key, str, default)

    def number(self, key: str, default: int | None = None) -> int:
        return self._typed(key, int, default)

    def flag(self, key: str) -> bool:
        value = self._data.get(key, False)
        if not isinstance(value, bool):
            raise DependenciesFormatError(f"{self._where}.{key}: {type(value).__name__} met, bool expected")
        return value

    def choice(self, key: str, kind: str) -> Any:
        """Read one of the words of a type in `kinds`."""
        from typing import get_args

        from envpack.discover import kinds

        value = self.text(key)
        allowed = get_args(getattr(kinds, kind))
        if value not in allowed:
            raise DependenciesFormatError(f"{self._where}.{key}: {value!r} met, one of {', '.join(allowed)} expected")
        return value

    def texts(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        values = self._typed(key, list, default)
        for position, value in enumerate(values):
            if not isinstance(value, str):
                met = type(value).__name__
                raise DependenciesFormatError(f"{self._where}.{key}[{position}]: {met} met, str expected")
        return tuple(values)

    def objects(self, key: str, read: Callable[[object, str], T], default: list[object] | None = None) -> tuple[T, ...]:
        values = self._typed(key, list, default)
        return tuple(read(value, f"{self._where}.{key}[{position}]") for position, value in enumerate(values))

    def _typed(self, key: str, kind: type[T], default: T | None = None) -> T:
        if key not in self._data:
            if default is not None:
                return default
            raise DependenciesFormatError(f"{self._where}.{key}: absent, {kind.__name__} expected")
        value = self._data[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            met = type(value).__name__
            raise DependenciesFormatError(f"{self._where}.{key}: {met} met, {kind.__name__} expected")
        return value
