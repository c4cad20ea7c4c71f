"""Fixtures: small projects written to a folder, and a real virtual environment whose distributions are made up."""

from __future__ import annotations

import os
import textwrap
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze

Project = Callable[[dict[str, str]], Path]


class Environment:
    """A virtual environment that holds what the tests put there, and nothing else: no pip, no envpack."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = str(folder / "bin" / "python")
        self.site = next((folder / "lib").glob("python3*/site-packages"))

    def install(
        self,
        name: str,
        version: str = "1.0",
        *,
        files: tuple[str, ...] = (),
        requires: tuple[str, ...] = (),
        extra_metadata: dict[str, str] | None = None,
        sources: dict[str, str] | None = None,
    ) -> None:
        """Put a distribution there, as an installer would leave it; `sources` are files with their content."""
        metadata = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        contents = {**dict.fromkeys(files), **(sources or {})}
        for file, text in contents.items():
            path = self.site / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if text is not None:
                path.write_text(textwrap.dedent(text))
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (metadata / "METADATA").write_text("\n".join(lines) + "\n\nA description.\n")
        for other, text in (extra_metadata or {}).items():
            (metadata / other).write_text(text)
        listed = [*contents, f"{metadata.name}/METADATA", f"{metadata.name}/RECORD"]
        (metadata / "RECORD").write_text("".join(f"{file},,\n" for file in listed))


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Write files of a project; returns the path of `main.py` in it."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path / "project" / "main.py"

    return write


@pytest.fixture
def needs(project: Project) -> Callable[..., dict[str, str]]:
    """Analyse one source text; returns the role of each distribution except those that only follow from others."""

    def ask(source: str, function: str = "", **options: object) -> dict[str, str]:
        script = project({"main.py": source})
        found = analyze(f"{script}:{function}" if function else script, **options)  # type: ignore[arg-type]
        return roles(found)

    return ask


def roles(found: Dependencies) -> dict[str, str]:
    return {item.name: item.role for item in found.distributions if item.role != "transitive"}


def relative(paths: tuple[str, ...], folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]
