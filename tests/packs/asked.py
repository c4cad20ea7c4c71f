"""What a run of this project's tests asks for besides what the analyser finds in them, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# No file imports its test runner's plugins: pyproject.toml and the command line ask for them, so the packer is told.
RUNNER = ("pytest", "pytest-timeout", "hypothesis")

IMAGES = np.zeros((8, 64))


@dataclass(frozen=True)
class Asked:
    """What one file, or each file of a folder, asks for.

    Args:
        why: the reason.
        include: distributions to pack that no analysis of the file can find.
        exclude: modules to leave out of the pack.
        needs_sources: whether it reads the project's own sources as data; they are copied beside it, not importable.
        left_out: whether it is not run in its pack at all.
    """

    why: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    needs_sources: bool = False
    left_out: bool = False


_SUBJECTS = ("numpy", "scipy", "scikit-learn", "python-dateutil", "PyYAML")
_SUBJECTS_WHY = "analyse programs that they hold as text, which name these as installed in the running environment"

# By file, or by folder for all files in it.
ASKED = {
    "tests/discover": Asked(_SUBJECTS_WHY, include=_SUBJECTS),
    "tests/discover/test_mapping.py": Asked(
        "installs a project with the build backend that the project names",
        include=(*_SUBJECTS, "hatchling", "editables"),
    ),
    "tests/executor/test_hoisting.py": Asked(
        "calls functions that import what is not installed, or only during the test",
        exclude=("no_such_module_anywhere", "deadly_module"),
    ),
    "tests/executor/test_environments.py": Asked(
        "calls a function whose module is not installed; writes a client that packs numpy, and hides the sources",
        include=("numpy",),
        exclude=("no_such_package_anywhere",),
        needs_sources=True,
    ),
    "tests/house/test_benchmarks.py": Asked("starts the programs of the checkout", left_out=True),
    "tests/house/test_dependencies.py": Asked("reads the imports of the sources", needs_sources=True),
    "tests/house/test_documentation.py": Asked(
        "runs the programs of the documentation", include=("envpack-hpc", "numpy")
    ),
    "tests/pack/test_bytecode.py": Asked(
        "runs a line of code that imports a file of another folder", exclude=("module",)
    ),
    "tests/pack/test_commands.py": Asked(
        "runs a line of code that imports a file of another folder", exclude=("helper",)
    ),
    "tests/pack/test_used.py": Asked(
        "packs a program that it holds as text", include=("numpy", "scipy"), needs_sources=True
    ),
    "tests/pack/test_importing.py": Asked(
        "runs the tools that make the archives, as programs", include=("conda-pack", "venv-pack")
    ),
    "tests/pack/test_trimming.py": Asked("packs a program that it holds as text", include=("numpy", "scipy")),
    "tests/pack/test_targets.py": Asked(
        "runs uv, which no file imports, as a command if there is one", include=("uv",)
    ),
    "tests/pack/test_targets_of_an_index.py": Asked(
        "runs uv, and packs a program that it holds as text", include=("uv", "numpy", "PyYAML")
    ),
    "tests/monitor/test_predict.py": Asked(
        "runs every policy by its name; one of them needs an extra", include=("scikit-learn",)
    ),
    "tests/monitor/test_hundred.py": Asked("starts a program of the checkout", left_out=True),
    "tests/house/test_public_names.py": Asked(
        "imports the plugs by their names, and what they stand on comes by extras",
        include=("distributed", "joblib", "parsl"),
    ),
    "tests/plugs/test_dask_calls.py": Asked(
        "imports a plug, and what that stands on comes by an extra of the distribution", include=("distributed",)
    ),
    "tests/plugs/test_dask_ssh.py": Asked("runs a program that it holds as text", include=("distributed", "asyncssh")),
    "tests/plugs/test_profile.py": Asked("makes objects of classes that it names in texts", include=("parsl",)),
    "tests/plugs/test_notebooks.py": Asked("starts a kernel, which is a program of its own", include=("ipykernel",)),
    "tests/plugs/test_one_script.py": Asked("starts a program of the checkout", left_out=True),
    "tests/packs/test_lists.py": Asked("compares these lists with the files of the checkout", left_out=True),
    "tests/packs/test_offline.py": Asked("runs programs of the checkout in packs of their own", left_out=True),
    "tests/house/test_wheel.py": Asked(
        "builds the sources with the build backend that pyproject.toml names, not the file",
        include=("hatchling",),
        needs_sources=True,
    ),
}


def asked_for(file: str) -> Asked:
    """Return what a file, or its folder, asks for."""
    return ASKED.get(file) or ASKED.get(file.rpartition("/")[0]) or Asked("")


# The words that a whole example is run with, so that it is short.
ARGUMENTS = {
    "examples/inference/run.py": ("--calls", "4", "--cold-calls", "2"),
    "examples/machines/months.py": ("--calls", "40"),
}

# Examples that run in their own folder instead of alone, where local modules have to come from the pack, and why.
_NEIGHBOURS = "submits functions of its neighbours, which are sent only from the user's folders"
BESIDE = {"examples/inference/run.py": _NEIGHBOURS, "examples/machines/months.py": _NEIGHBOURS}

# Functions of the examples that are called by themselves: their arguments, from the folder of the copied example, which
# holds a trained classifier.
CALLS: dict[str, dict[str, Callable[[Path], tuple[object, ...]]]] = {
    "examples/inference/functions.py": {
        "load_classifier": lambda folder: (folder / "digits.pkl",),
        "classify": lambda folder: (IMAGES,),
        "spectrum": lambda folder: (IMAGES,),
        "report": lambda folder: ([4, 2],),
    },
    "examples/inference/run.py": {"size": lambda folder: (123_456,)},
    "examples/inference/spelling.py": {"spell": lambda folder: (7,)},
    "examples/machines/working_days.py": {"load_holidays": lambda folder: ()},
}

# Functions of the examples that are not: they print to a console, which cannot be pickled, or take and give what only a
# run of the whole script makes. They run in it.
RUN_AS_PART = {
    "examples/inference/run.py": (
        "main",
        "train",
        "batches",
        "discover",
        "pack_all",
        "pack_each",
        "compare_levels",
        "nothing_kept",
        "environment_kept",
        "context_kept",
        "run_level",
        "watched",
        "run_others",
        "show_usage",
        "heading",
    ),
    "examples/machines/months.py": ("main",),
    "examples/machines/working_days.py": ("working_days",),
}
