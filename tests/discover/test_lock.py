"""Lock files and hashed requirements, from a package index that serves on this machine, as pip installs them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.markers import Marker

from envpack.discover import inspect_interpreter
from tests.discover.conftest import Environment, Project

pylock = pytest.importorskip("packaging.pylock", reason="packaging before 26 reads no lock files")

HASHES = {"sha256": "0" * 64}
FILES = {
    "alpha": ["alpha-1.0-py3-none-any.whl", "alpha-1.0.tar.gz", "alpha-2.0-py3-none-any.whl"],
    "beta": ["beta-1.0-cp39-cp39-win32.whl", "beta-1.0.tar.gz"],
    "old": ["old-2.0-py3-none-any.whl"],
}


class Index(BaseHTTPRequestHandler):
    asked: list[str | None]
    wheels: dict[str, bytes]

    def do_GET(self) -> None:
        name = self.path.strip("/").split("/")[-1]
        if name in self.wheels:
            self._answer(self.wheels[name], "application/octet-stream")
            return
        type(self).asked.append(self.headers["Authorization"])
        project = next((one for one in FILES if one == name), "")
        made = {file: sha256(data) for file, data in self.wheels.items() if file.startswith(f"{name}-")}
        listed = {**dict.fromkeys(FILES.get(project, ()), HASHES["sha256"]), **made}
        if not listed:
            self.send_error(404)
        elif "html" in self.path:
            links = (f'<a href="../../files/{file}#sha256={digest}">{file}</a>' for file, digest in listed.items())
            self._answer(f"<!DOCTYPE html><html>{'<br>'.join(links)}</html>".encode(), "text/html")
        else:
            files = [
                {"filename": file, "url": f"../../files/{file}#x", "hashes": {"sha256": digest}}
                for file, digest in listed.items()
            ]
            page = {"meta": {"api-version": "1.0"}, "name": name, "files": files}
            self._answer(json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(name: str, requires: tuple[str, ...] = ()) -> bytes:
    """Make a wheel that pip installs, of one empty module."""
    info = f"{name}-1.0.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", "Provides-Extra: fast"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return content.getvalue()


@pytest.fixture
def index() -> Iterator[int]:
    Index.asked = []
    Index.wheels = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def lock(
    script: Path, environment: Environment, port: int, *options: str, form: str = "pylock", folder: str = "simple"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envpack", "analyze", str(script), "--python", environment.python]
    environ = {**os.environ, "PIP_INDEX_URL": f"http://me:secret@127.0.0.1:{port}/{folder}", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [*command, "--format", form, *options], capture_output=True, text=True, env=environ, timeout=60
    )


def pip(environment: Environment, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pip for an environment, with no index but ours and nobody's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environ = {**kept, "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    address = f"http://127.0.0.1:{port}/simple/"
    command = [sys.executable, "-m", "pip", "--python", environment.python, "install", "--index-url", address, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=100)


WHEEL = {"WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n"}


def test_lock_file_is_valid_and_has_address_and_hash_of_each(
    environment: Environment, project: Project, index: int
) -> None:
    environment.install("alpha", files=("alpha.py",), requires=("beta",), extra_metadata=WHEEL)
    environment.install("beta", files=("beta.py",), extra_metadata=WHEEL)
    vcs = {"url": "https://example.org/gamma", "vcs_info": {"vcs": "git", "commit_id": "ab12"}}
    environment.install("gamma", files=("gamma.py",), extra_metadata={"direct_url.json": json.dumps(vcs)})
    answer = lock(project({"main.py": "import alpha, gamma\n"}), environment, index)
    assert answer.returncode == 0, answer.stderr
    data = tomllib.loads(answer.stdout)
    pylock.Pylock.from_dict(data)
    alpha, beta, gamma = data["packages"]
    assert [file["name"] for file in alpha["wheels"]] == ["alpha-1.0-py3-none-any.whl"]
    assert alpha["wheels"][0]["hashes"] == HASHES
    assert alpha["wheels"][0]["url"] == f"http://127.0.0.1:{index}/files/alpha-1.0-py3-none-any.whl"
    assert beta["sdist"]["name"] == "beta-1.0.tar.gz"
    assert gamma["vcs"] == {"type": "git", "url": "https://example.org/gamma", "commit-id": "ab12"}
    # A source tree does not promise a version.
    assert ("version" in alpha, "version" in gamma) == (True, False)
    assert alpha["index"] == f"http://127.0.0.1:{index}/simple/"
    markers = dict(inspect_interpreter(environment.python).markers)
    (condition,) = data["environments"]
    assert Marker(condition).evaluate(markers)
    assert not Marker(condition).evaluate({**markers, "sys_platform": "win32"})
    assert set(Index.asked) == {"Basic bWU6c2VjcmV0"}
    assert "secret" not in answer.stdout


def test_all_that_cannot_be_locked_are_named(environment: Environment, project: Project, index: int) -> None:
    environment.install("old", files=("old.py",), extra_metadata=WHEEL)
    environment.install("none", files=("none.py",), extra_metadata=WHEEL)
    environment.install("forge", files=("forge.py",), extra_metadata={"INSTALLER": "conda\n"})
    answer = lock(project({"main.py": "import old, none, forge\n"}), environment, index)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("envpack: error: cannot lock 3 of 3: forge: installed by conda; ")
    assert "old 1.0: not on the index" in answer.stderr
    assert f"127.0.0.1:{index}/simple/none/: HTTPError: HTTP Error 404" in answer.stderr
    assert "secret" not in answer.stderr


def test_lock_file_needs_the_name_of_an_index(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import numpy\n")
    environ = {name: value for name, value in os.environ.items() if name != "PIP_INDEX_URL"}
    command = [sys.executable, "-m", "envpack", "analyze", str(tmp_path / "main.py"), "--format", "pylock"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert answer.returncode == 2
    assert "set PIP_INDEX_URL" in answer.stderr


@pytest.fixture
def installed(environment: Environment, project: Project, index: int, tmp_path: Path) -> Path:
    """A script of two distributions: one with a requirement from the index, one from a file."""
    Index.wheels = {f"{name}-1.0-py3-none-any.whl": make_wheel(name, needs) for name, needs in WHEELS.items()}
    local = tmp_path / "local-1.0-py3-none-any.whl"
    local.write_bytes(make_wheel("local"))
    outcome = pip(environment, index, "outer", str(local))
    assert outcome.returncode == 0, outcome.stderr
    return project({"main.py": "import outer, local\n"})


WHEELS: dict[str, tuple[str, ...]] = {"outer": ("inner[fast]>=1",), "inner": ("speed; extra == 'fast'",), "speed": ()}


def test_pip_installs_from_hashed_requirements_and_nothing_else(
    installed: Path, environment: Environment, index: int, tmp_path: Path
) -> None:
    answer = lock(installed, environment, index, "--hashes", form="requirements")
    assert answer.returncode == 0, answer.stderr
    # An index that knows only the older form says the same.
    assert lock(installed, environment, index, "--hashes", form="requirements", folder="html").stdout == answer.stdout
    lines = answer.stdout.replace("\\\n", "").splitlines()
    local = tmp_path / "local-1.0-py3-none-any.whl"
    expected = {name: sha256(Index.wheels[f"{name}-1.0-py3-none-any.whl"]) for name in sorted(WHEELS)}
    assert [line.split() for line in lines if " @ " not in line] == [
        [f"{name}==1.0", f"--hash=sha256:{digest}"] for name, digest in expected.items()
    ]
    assert f"local @ {local.as_uri()}      --hash=sha256:{sha256(local.read_bytes())}".split() in [
        line.split() for line in lines
    ]
    file = tmp_path / "requirements.txt"
    file.write_text(answer.stdout)
    fresh = Environment(tmp_path / "fresh")
    outcome = pip(fresh, index, "--require-hashes", "-r", str(file))
    assert outcome.returncode == 0, outcome.stderr
    assert {path.name for path in fresh.site.glob("*-1.0.dist-info")} == {
        f"{name}-1.0.dist-info" for name in (*WHEELS, "local")
    }
    Index.wheels["inner-1.0-py3-none-any.whl"] += b"x"
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in pip(Environment(tmp_path / "b"), index, "-r", str(file)).stderr


def test_pip_installs_from_the_lock_file(installed: Path, environment: Environment, index: int, tmp_path: Path) -> None:
    answer = lock(installed, environment, index)
    assert answer.returncode == 0, answer.stderr
    file = tmp_path / "pylock.toml"
    file.write_text(answer.stdout)
    pylock.Pylock.from_dict(tomllib.loads(answer.stdout)).validate()
    if "pylock.toml" not in subprocess.check_output([sys.executable, "-m", "pip", "install", "--help"], text=True):
        pytest.skip("this pip reads no lock files")
    fresh = Environment(tmp_path / "fresh")
    outcome = pip(fresh, index, "-r", str(file))
    assert outcome.returncode == 0, outcome.stderr
    assert len(list(fresh.site.glob("*-1.0.dist-info"))) == 4


def test_pip_installs_from_plain_requirements(
    installed: Path, environment: Environment, index: int, tmp_path: Path
) -> None:
    answer = lock(installed, environment, index, form="requirements")
    assert len(answer.stdout.splitlines()) == 2
    file = tmp_path / "requirements.txt"
    file.write_text(answer.stdout)
    outcome = pip(Environment(tmp_path / "fresh"), index, "--dry-run", "-r", str(file))
    assert "Would install inner-1.0 local-1.0 outer-1.0 speed-1.0" in outcome.stdout, outcome.stderr


def test_what_has_no_hash_is_named(environment: Environment, project: Project, index: int) -> None:
    for name, direct in {
        "folder": {"url": "file:///home/me/folder", "dir_info": {}},
        "forge": {"url": "https://example.org/forge", "vcs_info": {"vcs": "git", "commit_id": "ab12"}},
    }.items():
        files = {"direct_url.json": json.dumps(direct)}
        environment.install(name, files=(f"{name}.py",), extra_metadata=files)
    answer = lock(project({"main.py": "import folder, forge\n"}), environment, index, "--hashes", form="requirements")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert "no hash of 2 of 2: folder: installed from a directory; forge: installed from a vcs" in answer.stderr


def test_index_may_be_a_folder(environment: Environment, project: Project, tmp_path: Path) -> None:
    environment.install("alpha", files=("alpha.py",), extra_metadata=WHEEL)
    page = tmp_path / "simple" / "alpha" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<html><a href="../../files/alpha-1.0-py3-none-any.whl#sha256={"1" * 64}">alpha</a></html>')
    command = [sys.executable, "-m", "envpack", "analyze", str(project({"main.py": "import alpha"}))]
    options = ["--python", environment.python, "--format", "requirements", "--hashes"]
    environ = {**os.environ, "PIP_INDEX_URL": (tmp_path / "simple").as_uri()}
    answer = subprocess.run([*command, *options], capture_output=True, text=True, env=environ, timeout=60)
    assert answer.stdout == f"alpha==1.0 \\\n    --hash=sha256:{'1' * 64}\n"
