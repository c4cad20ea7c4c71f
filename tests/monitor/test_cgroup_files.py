"""Where a process's cgroups are, and what their files say: the forms that the kernel's documentation shows.

Version 2 with a memory controller is not on every machine that runs these tests: what concerns it stands in folders
made here, with the files and the rules of the kernel's documentation.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack_monitor.errors import MechanismError
from envpack_monitor.trees import cgroup_files
from envpack_monitor.trees.cgroup import Cgroup, hand_down, parent_of
from envpack_monitor.trees.cgroup_files import Place, places

HYBRID = """\
9:name=systemd:/user.slice/session-3.scope
4:memory:/user.slice/user-1000.slice
2:cpu,cpuacct:/user.slice
0::/user.slice/session-3.scope
"""
HYBRID_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,nsdelegate - cgroup2 cgroup2 rw
"""
STAT = b"anon 4096\nfile 8192\ninactive_file 3000\nactive_file 500\nworkingset_refault_anon 0\n"


def test_hybrid_system_has_a_group_in_each_hierarchy() -> None:
    found = {(place.version, place.controllers): str(place.folder) for place in places(HYBRID, HYBRID_MOUNTS)}
    assert found == {
        (1, frozenset({"name=systemd"})): "/sys/fs/cgroup/systemd/user.slice/session-3.scope",
        (1, frozenset({"cpu", "cpuacct"})): "/sys/fs/cgroup/cpu,cpuacct/user.slice",
        (1, frozenset({"memory"})): "/sys/fs/cgroup/memory/user.slice/user-1000.slice",
        (2, frozenset()): "/sys/fs/cgroup/unified/user.slice/session-3.scope",
    }


@pytest.mark.parametrize(
    ("own", "root", "folder"),
    [
        ("0::/user.slice/app.scope", "/", "/sys/fs/cgroup/user.slice/app.scope"),
        # In a container with a cgroup namespace of its own, and in one without.
        ("0::/", "/", "/sys/fs/cgroup"),
        ("0::/docker/0123/inner", "/docker/0123", "/sys/fs/cgroup/inner"),
        ("0::/docker/0123", "/docker/0123", "/sys/fs/cgroup"),
        ("0::/../other", "/", "/sys/fs/cgroup"),
        (
            "0::/system.slice/slurmstepd.scope/job_7/step_0",
            "/",
            "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0",
        ),
    ],
)
def test_unified_system_has_one_group_also_in_containers(own: str, root: str, folder: str) -> None:
    (place,) = places(own + "\n", f"30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    assert (place.version, str(place.folder)) == (2, folder)


def test_escapes_of_mount_points_are_undone() -> None:
    (place,) = places("0::/a\n", "30 23 0:26 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n")
    assert str(place.folder) == "/mnt/my groups/a"


def test_this_process_is_in_the_groups_that_are_found() -> None:
    found = places(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    for place in found:
        assert str(os.getpid()) in (place.folder / "cgroup.procs").read_text().split()


def test_numbers_words_and_times_are_read() -> None:
    assert cgroup_files.numbers(STAT)["inactive_file"] == 3000
    assert cgroup_files.numbers(b"low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n")["oom_kill"] == 2
    assert cgroup_files.numbers(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")["oom_kill"] == 3
    assert cgroup_files.words(b"cpuset cpu io memory hugetlb pids\n") >= {"memory", "pids"}
    assert cgroup_files.cpu_s(b"usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n", 2) == 2.5
    assert cgroup_files.cpu_s(b"2500000000\n", 1) == 2.5
    assert cgroup_files.cpu_s(b"", 2) is None


class Unified:
    """A group of version 2 as files in a folder: what the kernel would put there is put there by the test."""

    def __init__(self, folder: Path, *, controllers: str, handed_down: str, pids: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "cgroup.controllers").write_text(f"{controllers}\n")
        (folder / "cgroup.subtree_control").write_text(f"{handed_down}\n")
        (folder / "cgroup.procs").write_text(pids)


def test_memory_that_is_handed_down_already_is_used(tmp_path: Path) -> None:
    group = Unified(tmp_path / "app", controllers="cpu memory", handed_down="memory", pids="1\n2\n")
    assert hand_down(group.folder) == group.folder
    assert parent_of([Place(2, frozenset(), group.folder)]).folder == group.folder


def test_process_that_is_alone_moves_into_a_leaf_before_memory_is_handed_down(tmp_path: Path) -> None:
    group = Unified(tmp_path / "app", controllers="cpu memory", handed_down="", pids=f"{os.getpid()}\n")
    assert hand_down(group.folder) == group.folder
    leaf = group.folder / f"envpack-leaf-{os.getpid()}"
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    assert (group.folder / "cgroup.subtree_control").read_text() == "+memory"
    # What starts in the leaf looks above it.
    (group.folder / "cgroup.subtree_control").write_text("memory\n")
    assert hand_down(leaf) == group.folder


def test_group_with_other_processes_or_without_memory_is_refused_with_the_reason(tmp_path: Path) -> None:
    shared = Unified(tmp_path / "shared", controllers="memory", handed_down="", pids=f"{os.getpid()}\n999999\n")
    with pytest.raises(MechanismError, match="1 other processes are in"):
        hand_down(shared.folder)
    without = Unified(tmp_path / "without", controllers="cpu pids", handed_down="", pids="")
    with pytest.raises(MechanismError, match="not handed down to"):
        parent_of([Place(2, frozenset(), without.folder)])
    with pytest.raises(MechanismError, match="no memory cgroup is mounted"):
        parent_of([])


def test_version_1_is_preferred_where_it_has_the_memory_controller(tmp_path: Path) -> None:
    one = Place(1, frozenset({"memory"}), tmp_path)
    assert parent_of([Place(2, frozenset(), tmp_path / "unified"), one]) is one


def test_group_of_version_2_without_a_peak_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MechanismError, match=r"no memory.peak .*older than 5\.19"):
        Cgroup(Place(2, frozenset(), tmp_path))
    assert list(tmp_path.iterdir()) == []


def filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroup:
    """Make a group of version 2 whose files are there at once, as the kernel would have them."""
    texts = {
        "cgroup.procs": "",
        "cpu.stat": "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1000000\n",
        "memory.current": "150000\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "memory.max": "max\n",
        "memory.peak": "2000000\n",
        "memory.stat": STAT.decode(),
        "memory.swap.max": "max\n",
    }
    plain = Path.mkdir

    def mkdir(self: Path) -> None:
        plain(self)
        for name, text in texts.items():
            (self / name).write_text(text)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        return Cgroup(Place(2, frozenset(), folder))


def test_group_of_version_2_is_read_and_limited_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = filled(tmp_path, monkeypatch)
    assert group.peak_and_quality() == (2_000_000 - 3500, "exact")
    assert (group.usage_bytes(), group.cpu_s(), group.out_of_memory_kills()) == (150_000, 5.0, 1)
    group.begin(10_000_000)
    # Kills and CPU are counted from here on; the peak is set back by a write.
    assert (group.cpu_s(), group.out_of_memory_kills()) == (0.0, 0)
    assert (group.folder / "memory.max").read_text() == "10000000"
    assert (group.folder / "memory.swap.max").read_text() == "0"
    group.begin()
    assert [(group.folder / name).read_text() for name in ("memory.max", "memory.swap.max")] == ["max", "max"]
    group.join()
    assert group.pids() == [os.getpid()]
