"""A store of several users: each adds and uses, and none takes away what is another's."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.commands.main import main
from envpack.pack import Store, pack

GROUP = 54321

AS_USER = """
import os, shutil, subprocess, sys
from envpack.errors import EnvpackError
from envpack.pack import Store
umask, folder, file, code = sys.argv[1:]
os.umask(int(umask))
store = Store(folder)
try:
    exec(code)
except EnvpackError as error:
    print("refused:", error)
"""

# The interpreter may lie in a folder of root. So these users may read everything; what the group may read is looked at
# in the permissions. They may not write, remove or link what is not theirs.
RIGHTS = ("--inh-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search", "--ambient-caps=+dac_read_search")

MAKE = "print(store.materialise(store.import_pack(file)))"
FIND = "print(store.materialise(store.manifest(store.manifest_ids()[0])))"


def can_be_others() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run(["setpriv", "--reuid=2001", *RIGHTS, "true"], capture_output=True, timeout=60).returncode == 0


others_needed = pytest.mark.skipif(not can_be_others(), reason="becomes other users")


@pytest.fixture
def as_user(prefix, needs, tmp_path: Path) -> Callable[..., str]:
    """Run code as another user, with the shared `store` and the pack `file`."""
    prefix.install("one", "1.0", {"one/__init__.py": "value = 1\n"})
    pack(needs(("one", "1.0")), python=prefix.python, store=tmp_path / "own", output=tmp_path / "pack.tar.zst")

    def run(user: int, code: str, group: int = GROUP, umask: int = 0o077) -> str:
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *RIGHTS]
        words = [umask, tmp_path / "shared", tmp_path / "pack.tar.zst", code]
        command = [*become, sys.executable, "-c", AS_USER, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    Store(tmp_path / "shared").share(GROUP)
    return run


@others_needed
def test_what_one_user_made_all_of_the_group_use_whatever_the_umask(as_user, tmp_path: Path) -> None:
    made = as_user(2001, MAKE, umask=0o077)
    assert Path(made.strip()).stat().st_uid == 2001
    assert as_user(2002, MAKE, umask=0o077) == made
    run = f"print(subprocess.call([{made.strip()!r} + '/bin/python', '-c', 'import one']))"
    assert as_user(2002, run) == "0\n"
    for path in (tmp_path / "shared").rglob("*"):
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            assert status.st_gid == GROUP, path
            assert status.st_mode & 0o040, path


@others_needed
def test_no_user_takes_away_what_is_another_s(as_user) -> None:
    made = as_user(2001, MAKE)
    gone = "answer = store.collect(max_size_bytes=0); print(answer.others, len(answer.plan.removals))"
    others, removed = map(int, as_user(2002, gone).split())
    assert others >= 4
    assert removed == 0
    remove = "shutil.rmtree(store.folder / 'layers', ignore_errors=True); print(len(store.ls().layers))"
    assert as_user(2002, remove) == "1\n"
    assert as_user(2002, MAKE) == made
    assert as_user(2001, gone).split()[0] == "0"
    assert not Path(made.strip()).exists()


@others_needed
def test_an_environment_of_another_user_s_layers_is_made_all_the_same(as_user) -> None:
    as_user(2001, "shutil.rmtree(store.materialise(store.import_pack(file)))")
    made = Path(as_user(2002, MAKE).strip())
    assert made.stat().st_uid == 2002
    assert as_user(2001, "print([item.problems for item in store.verify() if item.problems])") == "[]\n"


@others_needed
def test_who_may_not_write_uses_what_is_there_and_is_told_the_folder_and_the_remedy(as_user, tmp_path: Path) -> None:
    made = as_user(2001, MAKE)
    assert as_user(2003, FIND, group=GROUP + 1) == made
    said = as_user(2003, "store.pack_layer(())", group=GROUP + 1)
    assert said.startswith(f"refused: no permission in store '{tmp_path}/shared'")
    assert "ENVPACK_STORE" in said


def test_init_makes_a_shared_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("ENVPACK_STORE", str(tmp_path / "shared"))
    assert main(["store", "init", "--shared"]) == 0
    assert "is shared by group" in capsys.readouterr().out
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o2770
    assert stat.S_IMODE((tmp_path / "shared" / "layers").stat().st_mode) == 0o3770
    assert main(["store", "init", "--shared", "--group", "no such group"]) == 2
    assert main(["store", "init"]) == 2
