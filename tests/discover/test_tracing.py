"""Traced runs and sample calls: what a program is seen to need, and whether the answer suffices."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.discover import Dependencies, analyze
from envpack.errors import RunFailedError, SampleError, UsageError
from tests.discover.conftest import Environment, Project, roles

HELPER = """
    import importlib

    def optional(name, errors="raise"):
        try:
            return importlib.import_module(name)
        except ImportError:
            if errors == "raise":
                raise ImportError("install it") from None
            return None
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in which `frames` uses others in every way that libraries know."""
    lab = Environment(tmp_path_factory.mktemp("lab"))
    lab.install("core", sources={"core/__init__.py": "VALUE = 1\n"})
    for name in ("speedup", "probed", "flagged", "sheets", "plain", "datums", "other", "lonely"):
        lab.install(name, sources={f"{name}/__init__.py": f"NAME = {name!r}\n", f"{name}/table.csv": "1\n"})
    lab.install(
        "drawing",
        sources={"drawing/__init__.py": "def draw():\n    import core\n    return core.VALUE\n"},
        extra_metadata={"entry_points.txt": "[frames.backends]\ndraw = drawing:draw\n"},
    )
    lab.install(
        "frames",
        requires=("core", 'unasked; extra == "all"'),
        sources={
            "frames/_optional.py": HELPER,
            "frames/__init__.py": """
                import importlib.util
                from importlib.metadata import entry_points
                import core
                from frames._optional import optional

                probed = optional("probed", errors="warn")
                try:
                    import speedup
                except ImportError:
                    speedup = None
                HAS_FLAGGED = importlib.util.find_spec("flagged") is not None
                if HAS_FLAGGED:
                    import flagged

                def to_sheet():
                    return optional("sheets").NAME

                def hard():
                    import plain
                    return plain.NAME

                def unstated():
                    spec = importlib.util.find_spec("lonely")
                    module = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(module)
                    return module

                def plot():
                    (entry,) = entry_points(group="frames.backends", name="draw")
                    return entry.load()()
                """,
        },
    )
    return lab


Run = Callable[..., Dependencies]


@pytest.fixture
def run(project: Project, lab: Environment) -> Run:
    """Run one source text as a script; returns the answer."""

    def ask(source: str, *arguments: str, **options: object) -> Dependencies:
        script = project({"main.py": source})
        return analyze(script, python=lab.python, run=arguments, **options)  # type: ignore[arg-type]

    return ask


@pytest.fixture
def call(project: Project, lab: Environment) -> Run:
    """Call `f` of one source text; returns the answer."""

    def ask(source: str, sample: str = "f()", **options: object) -> Dependencies:
        script = project({"main.py": source})
        return analyze(f"{script}:f", python=lab.python, sample=sample, **options)  # type: ignore[arg-type]

    return ask


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


# Runs of a script


def test_a_name_that_only_the_run_knows_is_direct(run: Run) -> None:
    found = run("import importlib, sys\nimportlib.import_module(sys.argv[1])\n", "plain")
    assert roles(found) == {"plain": "direct"}
    (plain,) = found.distributions
    assert [(os.path.basename(one.file), one.line, one.kind) for one in plain.evidence] == [("main.py", 2, "runtime")]
    assert found.verified


def test_what_a_library_takes_only_because_it_is_there_is_left_out(run: Run) -> None:
    found = run("import frames\nassert frames.speedup and frames.probed and frames.flagged\n", verify=False)
    assert roles(found) == {"frames": "direct"}
    assert not found.verified


def test_what_a_library_imports_without_requiring_it_is_hidden(run: Run) -> None:
    found = run("import frames\nframes.hard()\n")
    assert roles(found) == {"frames": "direct", "plain": "hidden"}
    plain = next(item for item in found.distributions if item.name == "plain")
    assert [(os.path.basename(one.file), one.line) for one in plain.evidence] == [("main.py", 2)]
    assert found.verified


def test_what_a_helper_imports_that_may_raise_is_settled_by_verification(run: Run) -> None:
    found = run("import frames\nprint(frames.to_sheet())\n")
    assert roles(found) == {"frames": "direct", "sheets": "hidden"}
    assert found.verified


def test_what_is_loaded_without_an_import_is_settled_by_verification(run: Run) -> None:
    found = run("import frames\nframes.unstated()\n")
    assert roles(found) == {"frames": "direct", "lonely": "hidden"}
    assert found.verified
    found = run("import frames\ntry:\n    frames.unstated()\nexcept AttributeError:\n    pass\n")
    assert roles(found) == {"frames": "direct"}
    assert found.verified


def test_what_is_doubtful_counts_where_nothing_verifies(run: Run) -> None:
    found = run("import frames\nprint(frames.to_sheet())\n", verify=False)
    assert roles(found) == {"frames": "direct", "sheets": "hidden"}


def test_what_the_user_s_code_can_do_without_stays_optional(run: Run) -> None:
    found = run("import plain\ntry:\n    import speedup\nexcept ImportError:\n    speedup = None\n")
    assert roles(found) == {"plain": "direct", "speedup": "optional"}
    assert found.verified


def test_a_plugin_counts_when_it_is_loaded_but_not_when_its_metadata_are_read(run: Run) -> None:
    found = run("import frames\nframes.plot()\n")
    assert roles(found) == {"frames": "direct", "drawing": "hidden"}
    scan = "from importlib.metadata import distributions\nprint(len([d.metadata['Name'] for d in distributions()]))\n"
    assert roles(run(scan)) == {}


def test_the_metadata_that_the_program_itself_asks_for_are_added_by_verification(run: Run) -> None:
    found = run("import sys\nfrom importlib.metadata import version\nprint(version(sys.argv[1]))\n", "other")
    assert [item.name for item in found.distributions] == ["other"]
    assert found.verified


def test_a_data_file_of_another_distribution_counts(run: Run, lab: Environment) -> None:
    found = run("import sys\nprint(open(sys.argv[1]).read())\n", str(lab.site / "datums" / "table.csv"))
    assert roles(found) == {"datums": "direct"}


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, '-c', 'import plain'], check=True)",
        "subprocess.run([sys.executable, '-c', 'import plain, os; os._exit(0)'], check=True)",
        "[process := multiprocessing.get_context('fork').Process(target=work), process.start(), process.join()]",
        "[process := multiprocessing.get_context('spawn').Process(target=work), process.start(), process.join()]",
        "os.fork() and os.wait() or work() or os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_children_are_traced_however_they_start_and_end(run: Run, start: str) -> None:
    imports = "import importlib, multiprocessing, os, signal, subprocess, sys"
    work = "def work():\n    importlib.import_module('pl' + sys.argv[1])"
    found = run(f"{imports}\n{work}\nif __name__ == '__main__':\n    {start}\n", "ain", verify=False)
    assert roles(found) == {"plain": "direct"}


def test_local_modules_that_only_the_run_finds_are_files_to_ship(project: Project, lab: Environment) -> None:
    script = project(
        {
            "main.py": "import importlib, sys\nimportlib.import_module(sys.argv[1])\n",
            "tools/__init__.py": "",
            "tools/cut.py": "import plain\n",
        }
    )
    found = analyze(script, python=lab.python, run=["tools.cut"])
    assert roles(found) == {"plain": "direct"}
    assert sorted(os.path.relpath(path, script.parent) for path in found.local_files) == [
        "tools/__init__.py",
        "tools/cut.py",
    ]
    assert found.local_roots == (str(script.parent),)


def test_a_run_that_fails_is_said_and_verifies_nothing(run: Run) -> None:
    found = run("import plain\nraise ValueError('no input')\n")
    assert roles(found) == {"plain": "direct"}
    assert not found.verified
    assert [item.kind for item in found.unresolved] == ["run"]
    with pytest.raises(RunFailedError, match="ended with ValueError: no input"):
        found.raise_failed()


def test_an_answer_that_does_not_suffice_is_said(run: Run) -> None:
    counting = "import plain\nfrom importlib.metadata import distributions\nassert len(list(distributions())) > 5\n"
    found = run(counting)
    assert not found.verified
    assert [item.kind for item in found.unresolved] == ["verification"]
    with pytest.raises(RunFailedError, match="with nothing but this answer it ended with AssertionError"):
        found.raise_failed()


def test_what_is_added_in_vain_is_taken_out_again(run: Run) -> None:
    # Both fail to import, and only the first one mattered.
    source = """
        import sys
        def find(name):
            try:
                return __import__(name)
            except ImportError:
                return None
        first, second = find(sys.argv[1]), find(sys.argv[2])
        assert first
    """
    found = run(source, "plain", "other")
    assert roles(found) == {"plain": "direct"}
    assert found.verified


def test_the_program_sees_its_own_path_arguments_and_site_customization(run: Run, lab: Environment) -> None:
    (lab.site / "sitecustomize.py").write_text("import builtins\nbuiltins.customized = True\n")
    try:
        source = """
            import os, sys, warnings
            assert customized
            assert sys.argv[1:] == ["--flag", "a b"], sys.argv
            assert sys.path[0] == os.path.dirname(os.path.abspath(__file__))
            assert not any("envpack" in entry for entry in sys.path), sys.path
            assert sys.stdin.read() == ""
        """
        found = run(source, "--flag", "a b", verify=False)
    finally:
        (lab.site / "sitecustomize.py").unlink()
    assert [item.hint for item in found.unresolved] == []


def test_a_module_and_a_notebook_can_be_run(
    project: Project, lab: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = '{"cells": [{"cell_type": "code", "source": ["import importlib\\n", "importlib.import_module(\'pl\' + '
    cells += 'str(\'ain\'))"]}], "metadata": {}, "nbformat": 4}'
    script = project({"main.py": "", "tool/__main__.py": "import sys\n__import__(sys.argv[1])\n", "study.ipynb": cells})
    monkeypatch.chdir(script.parent)
    found = analyze("-m tool", python=lab.python, run=["plain"])
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)
    found = analyze(script.parent / "study.ipynb", python=lab.python, run=[])
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)


def test_magic_commands_of_a_notebook_run_what_they_run(project: Project, lab: Environment) -> None:
    cell = """%matplotlib inline
    !pip install nothing-of-the-sort
    lines = !echo 4{2 + 1}
    assert lines == ["43"], lines
    %run part.py plain
    assert loaded.NAME == "plain"
    """
    cells = [{"cell_type": "code", "source": textwrap.dedent(" " * 4 + cell)}]
    notebook = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4})
    script = project({"study.ipynb": notebook, "part.py": "import sys\nloaded = __import__(sys.argv[1])\n"})
    found = analyze(script.parent / "study.ipynb", python=lab.python, run=[])
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)


def test_of_functions_only_what_happens_in_them_counts(project: Project, lab: Environment) -> None:
    script = project(
        {
            "main.py": """
                def load(name):
                    return __import__(name)

                def f(name):
                    return load(name)

                def g(name):
                    return load(name)

                def never():
                    return 1

                f("".join(reversed("nialp")))
                g("".join(reversed("rehto")))
                """
        }
    )
    found = analyze(script, functions=["f", "g", "never"], python=lab.python, run=[])
    assert {item.name: item.distributions for item in found.functions} == {
        "f": ("plain",),
        "g": ("other",),
        "never": (),
    }
    assert not found.verified
    assert [item.hint for item in found.unresolved if item.kind == "uncalled"] == [
        "never was not called in the run: give a sample call of it"
    ]
    found.raise_failed()


# Sample calls


def test_a_sample_call_needs_what_the_function_needs_and_not_its_script(call: Run) -> None:
    found = call(
        "import other, plain\nCHOICE = 'plain'\ndef f(n, *, twice=False):\n    return __import__(CHOICE)\n", "f(1)"
    )
    assert roles(found) == {"plain": "direct"}
    assert found.local_files == ()
    assert found.verified


@pytest.mark.parametrize(
    "source",
    [
        "from plain import NAME\ndef f():\n    return NAME\n",
        "import plain, other\nFLAG = bool(1)\nlibrary = other if FLAG else plain\ndef f():\n    return library.NAME\n",
        "import plain\nplain = None\ndef f():\n    return plain\n",
    ],
)
def test_what_the_pickle_does_not_take_along_is_optional(call: Run, source: str) -> None:
    found = call(source)
    assert {name: role for name, role in roles(found).items() if name != "other"} in ({"plain": "optional"}, {})
    assert found.verified


def test_what_an_argument_of_the_sample_is_made_of_is_needed(call: Run) -> None:
    found = call("import plain\ndef f(module):\n    return module.NAME\n", "f(plain)")
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)


@pytest.mark.parametrize("sample", ["f(make(2), k=3)", "f(k=3, n=make(2))"])
def test_a_sample_call_is_evaluated_among_the_names_of_the_script(call: Run, sample: str) -> None:
    source = "def make(n):\n    return [n]\ndef f(n, k):\n    assert (n, k) == ([2], 3)\n"
    assert call(source, sample).verified


@pytest.mark.parametrize(("sample", "arguments"), [("(1, 2)", (1, 2)), ("[1]", ([1],)), ("", ()), ("make()", (7, 8))])
def test_a_sample_may_be_the_arguments_alone(call: Run, sample: str, arguments: tuple[object, ...]) -> None:
    assert call(f"def make():\n    return 7, 8\ndef f(*a):\n    assert a == {arguments!r}, a\n", sample).verified


@pytest.mark.parametrize(
    "body",
    [
        "async def f():\n    import asyncio\n    await asyncio.sleep(0)\n    __import__(''.join(reversed('nialp')))\n",
        "def f():\n    yield __import__(''.join(reversed('nialp')))\n",
        "class A:\n    def run(self):\n        return __import__(''.join(reversed('nialp')))\nf = A().run\n",
        "import functools\ndef g(n):\n    return __import__(n)\nf = functools.partial(g, ''.join(reversed('nialp')))\n",
    ],
)
def test_coroutines_generators_methods_and_partials_are_called_to_their_end(call: Run, body: str) -> None:
    found = call(body)
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)


def test_a_sample_call_works_though_the_script_needs_what_is_not_installed(call: Run) -> None:
    source = (
        "import plain\nimport absent.deep as deep\n@deep.jit(4)\ndef g():\n    pass\ndef f():\n    return plain.NAME\n"
    )
    found = call(source)
    assert (roles(found), found.verified) == ({"plain": "direct"}, True)


def test_cloudpickle_of_the_harness_is_no_dependency_and_no_help(call: Run) -> None:
    assert not call("def f():\n    import cloudpickle\n", verify=False).verified
    found = call(
        "def f():\n    try:\n        import cloudpickle\n    except ImportError:\n        return\n    assert False\n"
    )
    assert (roles(found), found.verified) == ({}, True)


def test_a_live_function_is_called_with_its_arguments(tmp_path: Path) -> None:
    choice = "yaml"

    def parse(text: str, *, loader: str) -> object:
        import importlib

        return getattr(importlib.import_module(choice), loader)(text)

    found = analyze(parse, sample=("a: 1",), sample_keywords={"loader": "safe_load"})
    assert (roles(found), found.verified) == ({"pyyaml": "direct"}, True)
    found = analyze(functools.partial(parse, loader="safe_load"), sample=("a: 1",))
    assert (roles(found), found.verified) == ({"pyyaml": "direct"}, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": "f("}, "cannot prepare the sample call of 'f' .*SyntaxError"),
        ({"sample": "f(undefined)"}, "cannot prepare the sample call of 'f' .*NameError: name 'undefined'"),
        ({"sample": (1,)}, "no function to call"),
        ({"sample": "f()", "functions": ["g"]}, "sample call of more than one function"),
        ({"sample": "f()", "run": ()}, "beside a run"),
    ],
)
def test_a_sample_that_cannot_be_made_is_an_error(
    project: Project, lab: Environment, options: dict[str, object], message: str
) -> None:
    script = project({"main.py": "def f():\n    pass\ndef g():\n    pass\n"})
    with pytest.raises((SampleError, UsageError), match=message):
        analyze(f"{script}:f", python=lab.python, **options)  # type: ignore[arg-type]


def test_an_argument_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(SampleError, match="cannot pickle the sample call"):
        analyze(len, sample=((item for item in ()),))


# The command


def envpack(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "envpack", *words], capture_output=True, text=True, cwd=cwd)


def test_the_command_runs_a_script_with_its_arguments(project: Project, lab: Environment) -> None:
    script = project({"main.py": "import sys\nprint('hello')\n__import__(sys.argv[-1])\n"})
    answer = envpack(
        "analyze", "main.py", "--python", lab.python, "--run", "--format", "requirements", "--", "-x", "plain",
        cwd=script.parent,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "plain==1.0\n", "hello\n")


def test_the_command_calls_a_function(project: Project, lab: Environment) -> None:
    script = project({"main.py": "def f(name):\n    __import__(name)\n"})
    answer = envpack("analyze", "main.py:f", "--python", lab.python, "--call", "f('plain')", cwd=script.parent)
    assert answer.returncode == 0, answer.stderr
    assert "plain" in answer.stdout
    assert "verified" in answer.stdout


def test_the_command_ends_with_1_when_the_run_fails(project: Project, lab: Environment) -> None:
    script = project({"main.py": "import plain\nimport sys\nsys.exit(3)\n"})
    answer = envpack("analyze", "main.py", "--python", lab.python, "--run", cwd=script.parent)
    assert answer.returncode == 1
    assert "plain" in answer.stdout
    assert "it ended with exit code 3" in answer.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_broken_off_run_leaves_no_process_and_no_file(
    project: Project, lab: Environment, tmp_path: Path, number: int, exit_code: int
) -> None:
    script = project({"main.py": "import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()\n"})
    words = [sys.executable, "-m", "envpack", "analyze", str(script), "--python", lab.python, "--run"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        child = int(process.stderr.readline())
        process.send_signal(number)
        assert process.wait(30) == exit_code
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not list(tmp_path.glob("envpack-*"))


def test_words_behind_the_dashes_need_a_run(project: Project) -> None:
    script = project({"main.py": ""})
    answer = envpack("analyze", "main.py", "--", "word", cwd=script.parent)
    assert answer.returncode == 2
    assert "--run expected" in answer.stderr
