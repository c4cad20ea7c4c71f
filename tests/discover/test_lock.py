"""`envpack analyze --format pylock` against a package index that serves on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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

    def do_GET(self) -> None:
        type(self).asked.append(self.headers["Authorization"])
        name = self.path.strip("/").split("/")[-1]
        listed = [{"filename": file, "url": f"../../files/{file}#x", "hashes": HASHES} for file in FILES.get(name, ())]
        body = json.dumps({"files": listed}).encode()
        self.send_response(200 if name in FILES else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[int]:
    Index.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def lock(script: Path, environment: Environment, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envpack", "analyze", str(script), "--python", environment.python]
    environ = {**os.environ, "PIP_INDEX_URL": f"http://me:secret@127.0.0.1:{port}/simple", "NO_PROXY": "127.0.0.1"}
    return subprocess.run([*command, "--format", "pylock"], capture_output=True, text=True, env=environ, timeout=60)


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
