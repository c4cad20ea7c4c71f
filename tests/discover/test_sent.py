"""What a function takes along when it is sent: imports that have worked, tables, numbers that stand for themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack import analyze
from tests.discover.conftest import Environment, Project, roles

Needs = Callable[..., dict[str, str]]

TRIED = "try:\n    import yaml\n    HAS = True\nexcept ImportError:\n    yaml, HAS = None, False\n"


def test_an_import_that_worked_travels_with_a_function_and_not_with_a_script(needs: Needs) -> None:
    source = f"{TRIED}def run(x):\n    return yaml.dump(x) if HAS else x\n"
    assert needs(source, "run") == {"pyyaml": "direct"}
    assert needs(f"{source}run(1)") == {"pyyaml": "optional"}


def test_an_import_that_was_not_tried_does_not_travel(needs: Needs) -> None:
    second = "    try:\n        import numpy as c\n    except ImportError:\n        c = None\n"
    source = f"try:\n    import yaml as c\nexcept ImportError:\n{second}def run():\n    return c\n"
    assert needs(source, "run")["numpy"] == "optional"


@pytest.mark.parametrize("made", ["float(np.pi)", "len(np.zeros(3))", "int(np.argmax([1]))"])
def test_a_number_does_not_say_how_it_came_about(made: str, needs: Needs) -> None:
    assert needs(f"import numpy as np\nN = {made}\ndef run(x):\n    return x * N\n", "run") == {}


def test_a_number_of_an_own_function_says_how(needs: Needs) -> None:
    source = "import numpy as np\ndef float(x): return np.asarray(x)\nN = float(np.pi)\ndef run(x):\n    return x * N\n"
    assert needs(source, "run") == {"numpy": "direct"}


def test_what_setattr_gives_a_class_belongs_to_it(needs: Needs) -> None:
    source = "import yaml\nclass A: pass\ndef f(self): return yaml.dump(1)\nsetattr(A, 'f', f)\n"
    assert needs(f"{source}def run():\n    return A().f()\n", "run") == {"pyyaml": "direct"}


def test_the_last_definition_of_a_name_counts_unless_another_was_used(needs: Needs) -> None:
    first = "import yaml, numpy\ndef f(): return yaml.dump(1)\n"
    last = "def f(): return numpy.zeros(1)\ndef run():\n    return f()\n"
    assert needs(first + last, "run") == {"numpy": "direct"}
    assert needs(f"{first}old = f\n{last}", "run") == {"numpy": "direct", "pyyaml": "direct"}


TABLES = [
    ("pd.DataFrame({'a': [1]})", True),
    ("pd.read_csv('a.csv').dropna()", True),
    ("pd.DataFrame(np.zeros((2, 2)), columns=['a', 'b'])", True),
    ("pd.DataFrame(np.zeros((2, 2)))", False),
    ("pd.DataFrame({'a': [1]}).shape", False),
]


@pytest.fixture
def tables(environment: Environment) -> Environment:
    environment.install("numpy", files=("numpy/__init__.py",))
    environment.install("pyarrow", files=("pyarrow/__init__.py",))
    return environment


def _needed(tables: Environment, project: Project, made: str) -> dict[str, str]:
    source = f"import numpy as np\nimport pandas as pd\nTABLE = {made}\ndef run():\n    return TABLE\n"
    return roles(analyze(f"{project({'main.py': source})}:run", python=tables.python))


@pytest.mark.parametrize(("made", "is_needed"), TABLES)
def test_a_table_with_texts_needs_pyarrow_where_it_arrives(
    made: str, is_needed: bool, tables: Environment, project: Project
) -> None:
    tables.install("pandas", "3.0.1", files=("pandas/__init__.py",))
    assert ("pyarrow" in _needed(tables, project, made)) == is_needed


def test_an_older_pandas_keeps_texts_itself(tables: Environment, project: Project) -> None:
    tables.install("pandas", "2.3.1", files=("pandas/__init__.py",))
    assert _needed(tables, project, "pd.DataFrame({'a': [1]})") == {"pandas": "direct"}


def test_a_closure_over_a_table_needs_it_too(tables: Environment, project: Project) -> None:
    tables.install("pandas", "3.0.1", files=("pandas/__init__.py",))
    source = "import pandas as pd\ndef make(t):\n    def run(): return t\n    return run\n"
    script = project({"main.py": f"{source}run = make(pd.DataFrame({{'a': [1]}}))\n"})
    assert roles(analyze(f"{script}:run", python=tables.python)) == {"pandas": "direct", "pyarrow": "hidden"}


def test_the_blocks_of_a_live_table_are_looked_into(environment: Environment, project: Project) -> None:
    internals = """
        class BlockManager:
            def __init__(self, block): self.__dict__ = {}; _BLOCKS[id(self)] = block
            blocks = property(lambda self: _BLOCKS[id(self)])
            axes = property(lambda self: ())
        _BLOCKS = {}
        """
    environment.install("pandas", sources={"pandas/__init__.py": "", "pandas/_libs/internals.py": internals})
    environment.install("pyarrow", sources={"pyarrow.py": "class Array: pass\n"})
    source = """
        import pyarrow
        from pandas._libs.internals import BlockManager
        from envpack import analyze
        def make(table):
            def run():
                return table
            return run
        print(*sorted(item.name for item in analyze(make(BlockManager(pyarrow.Array()))).distributions))
        """
    path = ":".join([str(environment.site), *filter(None, sys.path)])
    script = project({"main.py": source})
    run = subprocess.run([sys.executable, str(script)], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.stdout.split() == ["pandas", "pyarrow"], run.stderr


def test_a_sample_call_finds_the_module_of_what_is_pickled(project: Project) -> None:
    source = """
        import importlib
        class Kept:
            def __init__(self, function): self.function = function
            def __call__(self, x): return self.function(x)
            def __reduce__(self):
                importlib.import_module(self.function.__module__)
                return Kept, (self.function,)
        TABLE = {"double": Kept(lambda x: 2 * x)}
        def run(x):
            return TABLE["double"](x)
        """
    found = analyze(f"{project({'main.py': source})}:run", sample="(2,)")
    assert found.verified


@pytest.mark.parametrize("what", ["from numpy import pi as N", "from scipy.constants import c as N"])
def test_a_number_that_is_imported_travels_as_a_number(what: str, needs: Needs) -> None:
    assert needs(f"{what}\ndef run(x):\n    return x * N\n", "run") == {}
    assert needs(f"{what}\ndef run(x):\n    return x * N\nrun(2)\n") != {}


@pytest.mark.parametrize(
    "what", ["from numpy import sin as N", "from scipy.constants import find as N", "import numpy as N"]
)
def test_what_is_no_number_is_needed(what: str, needs: Needs) -> None:
    assert needs(f"{what}\ndef run(x):\n    return N, x\n", "run") != {}


def told(script: Path, *functions: str) -> tuple[dict[str, str], list[str]]:
    found = analyze(script, functions=functions)
    return roles(found), [Path(file).name for file in found.local_files]


def test_what_a_local_module_only_hands_on_does_not_need_that_module(project: Project) -> None:
    files = {
        "common.py": "import numpy\nimport yaml\nfrom packaging.version import Version as V\nZERO = numpy.zeros(1)\n",
        "main.py": "from common import V, ZERO, yaml\n\ndef a(x):\n    return yaml.dump(x)\n\n"
        "def b(x):\n    return V(x)\n\ndef c(x):\n    return ZERO + x\n\na(1)\n",
    }
    script = project(files)
    assert told(script, "a") == ({"pyyaml": "direct"}, [])
    assert told(script, "b") == ({"packaging": "direct"}, [])
    assert told(script, "c") == ({"numpy": "direct", "packaging": "direct", "pyyaml": "direct"}, ["common.py"])
    assert told(script)[1] == ["common.py"]


def test_modules_that_hand_on_each_other_s_names_come_to_an_end(project: Project) -> None:
    script = project(
        {
            "one.py": "from two import x",
            "two.py": "from one import x",
            "main.py": "from one import x\ndef f(): return x\n",
        }
    )
    assert told(script, "f")[0] == {}
