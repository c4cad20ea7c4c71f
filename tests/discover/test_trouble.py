"""Files and folders that make trouble: huge, in odd encodings, linked in circles, importing in circles, unreadable."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack import analyze
from envpack.errors import SourceSyntaxError, TargetNotFoundError
from tests.discover.conftest import Project, roles
from tests.discover.test_any_source import is_python
from tests.fuzzing import times

is_root = os.geteuid() == 0
STANDARD = Path(sysconfig.get_path("stdlib"))
PIECES = [
    b"await ",
    b"*",
    b":=",
    b"(",
    b"]",
    b'"""',
    b"f'{",
    b"\\\n",
    b"\x00",
    b"\xff",
    b"# coding: latin-1\n",
    b"\t",
    b".",
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Change a file in one to three places: a piece gone, doubled, moved, put in, or one byte replaced."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([1, 2, 5, 40, 400]))
        other = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                del data[start:end]
            case 1:
                data[start:start] = chance.choice(PIECES) * chance.choice([1, 50])
            case 2:
                data[other:other] = data[start:end]
            case 3:
                data[start : start + 1] = bytes([chance.randrange(256)])
    return bytes(data)


def test_changed_files_of_the_standard_library_are_analysed_or_refused_with_their_place(tmp_path: Path) -> None:
    chance = random.Random(2)
    files = sorted(file for file in STANDARD.glob("*.py") if file.stat().st_size < 12_000)
    outcomes = set()
    for number, file in enumerate(chance.sample(files, times(20))):
        content = mutated(file.read_bytes(), chance)
        script = tmp_path / f"changed{number}.py"
        script.write_bytes(content)
        if is_python(content):
            analyze(script)
            outcomes.add("analysed")
        else:
            with pytest.raises(SourceSyntaxError) as met:
                analyze(script)
            assert (met.value.path, met.value.line >= 1) == (str(script), True)
            outcomes.add("refused")
    assert outcomes == {"analysed", "refused"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "shift_jis", "koi8-r", "iso-8859-15"])
def test_source_in_the_encoding_that_it_names_is_read(encoding: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    letters = "я" if encoding == "koi8-r" else "ア" if encoding == "shift_jis" else "é"
    cookie = "" if encoding.startswith("utf-8") else f"# -*- coding: {encoding} -*-\n"
    script.write_text(f"{cookie}x = '{letters}'; import numpy\n", encoding=encoding)
    assert roles(analyze(script)) == {"numpy": "direct"}


@pytest.mark.parametrize(
    "content",
    ["x = 'é'".encode("latin-1"), b"# coding: no-such-encoding\n", "import numpy".encode("utf-16"), b"# coding: hex\n"],
)
def test_source_in_another_encoding_than_it_names_is_refused(content: bytes, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_bytes(content)
    with pytest.raises(SourceSyntaxError) as met:
        analyze(script)
    assert met.value.line >= 1


def test_ten_megabytes_of_source_are_analysed(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    line = f"TABLE += [{'x' * 2000!r}, 1]\n"
    script.write_text("TABLE = []\n" + line * (10_000_000 // len(line)) + "import numpy\n")
    assert script.stat().st_size > 9_990_000
    assert roles(analyze(script)) == {"numpy": "direct"}


def test_error_in_a_line_of_ten_megabytes_is_shown_in_a_line_that_can_be_read(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(f"x = '{'a' * 9_000_000}' + one two + '{'b' * 1_000_000}'\n")
    with pytest.raises(SourceSyntaxError) as met:
        analyze(script)
    *_, shown, caret = str(met.value).splitlines()
    assert len(shown) < 200
    assert "two" in shown
    assert len(caret) <= len(shown)


CYCLES = {
    "two_modules": {"main.py": "import a", "a.py": "import b, numpy", "b.py": "import a, yaml"},
    "itself": {"main.py": "import main, a", "a.py": "import a, numpy\nfrom a import *\nimport yaml"},
    "package": {
        "main.py": "import p.a",
        "p/__init__.py": "from .a import *",
        "p/a.py": "from . import b\nfrom p import *\nimport numpy",
        "p/b.py": "from .. import p\nfrom .a import x\nimport yaml",
    },
    "stars": {
        "main.py": "from a import *\nprint(dump)",
        "a.py": "from b import *\nimport numpy",
        "b.py": "from a import *\nimport yaml",
    },
}


@pytest.mark.parametrize("case", CYCLES)
def test_modules_that_import_each_other_are_followed_once(case: str, project: Project) -> None:
    assert roles(analyze(project(CYCLES[case]))) == {"numpy": "direct", "pyyaml": "direct"}


def test_links_that_lead_in_a_circle_end(project: Project) -> None:
    script = project({"main.py": "import p.a, p.loop.loop.b, itself", "p/__init__.py": "", "p/a.py": "import numpy"})
    (script.parent / "p" / "b.py").write_text("import yaml")
    (script.parent / "p" / "loop").symlink_to(script.parent / "p")
    (script.parent / "itself.py").symlink_to(script.parent / "itself.py")
    found = analyze(script)
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct"}
    assert [(item.module, item.kind) for item in found.unresolved] == [("itself", "source")]
    assert roles(analyze(script.parent / "p")) == {"numpy": "direct", "pyyaml": "direct"}


def test_script_that_is_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to(tmp_path / "b.py")
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    with pytest.raises(TargetNotFoundError):
        analyze(tmp_path / "a.py")


AS_SOMEBODY = """
import os, sys
from envpack import analyze
from envpack.errors import EnvpackError

def look(target):
    try:
        found = analyze(target)
        return [item.name for item in found.distributions], [(item.module, item.line) for item in found.unresolved]
    except EnvpackError as error:
        return type(error).__name__, str(error)

if os.geteuid() == 0:
    # What analysis loads late may lie where only the first user can read.
    for target in sys.argv[1:]:
        look(target)
    os.setgid(65534); os.setuid(65534)
for target in sys.argv[1:]:
    print(*look(target))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into; those of pytest are closed again by each session that begins."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_cannot_be_read_is_said(open_folder: Path) -> None:
    script = open_folder / "main.py"
    script.write_text("import closed.a\nimport secret")
    (script.parent / "secret.py").touch()
    (script.parent / "closed").mkdir()
    (script.parent / "closed" / "a.py").touch()
    (script.parent / "secret.py").chmod(0)
    (script.parent / "closed").chmod(0)
    words = [sys.executable, "-c", AS_SOMEBODY, script, script.parent / "secret.py"]
    # Nothing remembered, so that the first look loads what the second one needs.
    environ = {**os.environ, "ENVPACK_INDEX_CACHE": ""}
    try:
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60)
    finally:
        (script.parent / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    answer, refused = done.stdout.splitlines()
    assert "('closed.a', 1)" in answer
    assert "('secret', 2)" in answer
    assert refused.startswith("TargetNotFoundError cannot read")
