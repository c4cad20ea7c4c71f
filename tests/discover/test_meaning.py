"""The meaning of requirement lines is what `packaging` says, also where it is not asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envpack.discover.environment.requirements import Requirements
from tests.fuzzing import times

MARKERS = {
    "python_version": "3.11",
    "python_full_version": "3.11.7",
    "sys_platform": "linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "platform_release": "6.1",
    "platform_version": "1",
    "implementation_version": "3.11.7",
}

NAMES = ["a", "Zope.Interface", "a--B", "a-", "é"]
EXTRAS = ["", "[x]", "[ x , y ]", "[]", "[X_y]", "[x,]", "[-]", "[x-]"]
VERSIONS = [
    "",
    ">=1",
    "(>=1.0)",
    ">= 1.0, <2",
    "==1.*",
    "~=1.0",
    "=== a",
    "!=1.0",
    "(",
    "(>=1",
    ">=1)",
    ">==1",
    "= 1",
    "1.0",
]
CONDITIONS = [
    "",
    "; extra == 'x'",
    ';extra=="X-Y"',
    "; extra == 'x_y'",
    "; extra == 'x' or extra == 'y'",
    "; python_version < '3'",
    "; python_version > '3' and extra == 'x'",
    "; extra != 'x'",
    "; extra == x",
    "; extra == ''",
    "; 'x' == extra",
    "; sys_platform == 'linux'",
    ";",
]


def said_by_packaging(line: str, extra: str) -> tuple[str, tuple[str, ...]] | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    marker = requirement.marker
    holds = not extra
    if marker is not None:
        holds = marker.evaluate({**MARKERS, "extra": extra})
        if extra and marker.evaluate({**MARKERS, "extra": ""}):
            holds = False
    extras = tuple(sorted(str(canonicalize_name(one)) for one in requirement.extras))
    return (str(canonicalize_name(requirement.name)), extras) if holds else None


@pytest.fixture(scope="module", autouse=True)
def no_cache() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENVPACK_INDEX_CACHE", "")
        yield


@pytest.mark.parametrize("name", NAMES)
def test_lines_mean_what_packaging_says(name: str) -> None:
    for extras in EXTRAS:
        for version in VERSIONS:
            for condition in CONDITIONS:
                line = f"{name}{extras}{version}{condition}"
                for extra in ("", "x", "x-y", "z"):
                    assert Requirements(MARKERS).needs(line, extra) == said_by_packaging(line, extra), (line, extra)


@given(
    st.text("aZ0-_. []()<>=!~,;'\"x@/", max_size=30),
    st.sampled_from(["", "x", "a"]),
)
@settings(deadline=None, max_examples=times(300))
def test_any_text_means_what_packaging_says(line: str, extra: str) -> None:
    assert Requirements(MARKERS).needs(line, extra) == said_by_packaging(line, extra)


def test_verdicts_are_kept_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPACK_INDEX_CACHE", str(tmp_path))
    first = Requirements(MARKERS)
    assert first.needs("a; python_version > '3'") == ("a", ())
    first.keep()
    assert list(Requirements(MARKERS)._known) == ["a; python_version > '3'"]
    assert Requirements({**MARKERS, "python_version": "2.7"})._known == {}
