"""What a program loads by a name or through a function that it does not write where it is used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envpack import analyze
from envpack.discover.code.plainyaml import read_plain_yaml
from tests.discover.conftest import Project, roles

Needs = Callable[..., dict[str, str]]

LOADED = {
    "option": 'p = argparse.ArgumentParser()\np.add_argument("--lib", default="yaml")\no = p.parse_args()\n'
    "importlib.import_module(o.lib)",
    "option_of_a_function": 'p = argparse.ArgumentParser()\np.add_argument("-l", "--my-lib", default="yaml")\n'
    "def main(o): importlib.import_module(o.my_lib)\nmain(p.parse_args())",
    "choices": 'p = argparse.ArgumentParser()\np.add_argument("lib", choices=["yaml"])\n'
    "importlib.import_module(p.parse_args().lib)\no = p.parse_args()\nimportlib.import_module(o.lib)",
    "click": 'import click\n@click.option("--lib", default="yaml")\ndef main(lib): importlib.import_module(lib)',
    "mapped": 'def load(n): return importlib.import_module(n)\nlist(map(load, ["yaml"]))',
    "star_mapped": 'def load(a, n): return importlib.import_module(n)\nlist(itertools.starmap(load, [("a", "yaml")]))',
    "submitted": 'def load(n): return importlib.import_module(n)\npool.submit(load, "yaml")',
    "partial": "def load(n): return importlib.import_module(n)\nfunctools.partial(load, n='yaml')()",
    "thread": 'def load(n): importlib.import_module(n)\nthreading.Thread(target=load, args=("yaml",)).start()',
    "partial_method": "class A:\n def load(self, n): importlib.import_module(n)\n"
    " yaml = functools.partialmethod(load, 'yaml')\nA().yaml()",
    "method_mapped": "class A:\n def load(self, n): importlib.import_module(n)\nlist(map(A().load, ['yaml']))",
    "star_arguments": 'def load(*names):\n for n in names: importlib.import_module(n)\nload("json", "yaml")',
    "star_keywords": 'def load(**names):\n for n in names.values(): importlib.import_module(n)\nload(a="yaml")',
    "other_name": 'load = importlib.import_module\nload("yaml")',
    "got_by_name": 'getattr(importlib, "import_module")("yaml")',
    "import_mapped": 'list(map(importlib.import_module, ["yaml"]))',
    "import_in_thread": 'threading.Thread(target=importlib.import_module, args=("yaml",)).start()',
    "import_at_exit": 'import atexit\natexit.register(importlib.import_module, "yaml")',
    "built_in": '__builtins__.__import__("yaml")',
    "returned": 'def name(): return "yaml"\nimportlib.import_module(name())',
    "returned_by_lambda": 'name = lambda: "yaml"\nimportlib.import_module(name())',
    "property": 'class A:\n @property\n def lib(self): return "yaml"\n'
    " def load(self): importlib.import_module(self.lib)",
    "increased": 'n = "ya"\nn += "ml"\nimportlib.import_module(n)',
    "appended": 'names = ["json"]\nnames.append("yaml")\nfor n in names: importlib.import_module(n)',
    "extended": 'names = ["json"]\nnames.extend(["yaml"])\nfor n in names: importlib.import_module(n)',
    "enumeration": 'import enum\nclass E(enum.Enum):\n A = "yaml"\nfor e in E: importlib.import_module(e.value)',
    "objects_in_a_list": "import dataclasses\n@dataclasses.dataclass\nclass C:\n lib: str\n"
    'for c in [C("yaml")]: importlib.import_module(c.lib)',
    "assigned_attribute": 'class C: pass\nc = C()\nc.lib = "yaml"\nimportlib.import_module(c.lib)',
    "chained_maps": 'importlib.import_module(collections.ChainMap({}, {"lib": "yaml"})["lib"])',
    "turned": 'import codecs\nimportlib.import_module(codecs.decode("lnzy", "rot13"))',
    "characters": 'importlib.import_module("".join(chr(c) for c in (121, 97, 109, 108)))',
    "filtered": 'for n in filter(None, ["", "yaml"]): importlib.import_module(n)',
    "sorted": 'for n in sorted(["yaml"], key=lambda n: -len(n)): importlib.import_module(n)',
    "timed": 'import timeit\ntimeit.timeit("yaml.dump(1)", setup="import yaml")',
    "timed_statement": 'import timeit\ntimeit.Timer("import yaml").timeit()',
    "evaluated": "eval(\"__import__('yaml')\")",
    "profiled": 'import cProfile\ncProfile.run("import yaml")',
    "compiled": 'code = compile("import yaml", "x", "exec")\nexec(code)',
    "split_command": 'subprocess.run(shlex.split(f"{sys.executable} -m yaml"))',
    "increased_command": 'c = [sys.executable]\nc += ["-m", "yaml"]\nsubprocess.run(c)',
    "passed_command": 'def run(*words): subprocess.run([sys.executable, *words])\nrun("-m", "yaml")',
    "place_of_a_module": 'importlib.util.find_spec("yaml").origin',
    "ini": 'c = configparser.ConfigParser()\nc.read_string("[a]\\nlib = yaml\\n")\n'
    'importlib.import_module(c["a"]["lib"])',
    "ini_got": 'c = configparser.ConfigParser()\nc.read_dict({"a": {"lib": "yaml"}})\n'
    'importlib.import_module(c.get("a", "lib"))',
    "ini_fallback": 'c = configparser.ConfigParser()\nc.read_dict({"a": {}})\n'
    'importlib.import_module(c.get("a", "lib", fallback="yaml"))',
    "tornado": 'from tornado.util import import_object as load\nload("yaml.nodes.Node")',
}
IMPORTS = (
    "import argparse, collections, configparser, functools, importlib, itertools, shlex, subprocess, sys, threading\n"
)


@pytest.mark.parametrize("case", LOADED)
def test_what_is_loaded_in_a_roundabout_way_is_needed(case: str, needs: Needs) -> None:
    assert needs(IMPORTS + LOADED[case])["pyyaml"] == "direct"


@pytest.mark.parametrize(
    "source",
    [
        'o = p.parse_args()\np.add_argument("--fast", default=False)\nx = yaml if o.fast else json',
        "def wanted(): return False\nx = yaml if wanted() else json",
    ],
)
def test_a_default_and_a_result_decide_no_condition(source: str, needs: Needs) -> None:
    assert needs(f"import json, yaml\ndef run():\n return x\n{source}", "run") == {"pyyaml": "direct"}


def test_an_increased_name_is_not_what_was_added_to_it(project: Project) -> None:
    script = project({"main.py": 'import importlib\nn = "ya"\nn += "ml"\nimportlib.import_module(n)'})
    assert "ml" not in {one.module for one in analyze(str(script)).unresolved}


FOLDERS = {
    "package": "import pkgutil, plugins\nfor m in pkgutil.iter_modules(plugins.__path__):\n"
    '    importlib.import_module(f"{plugins.__name__}.{m.name}")',
    "package_with_prefix": "import pkgutil, plugins\n"
    "for _, name, _ in sorted(pkgutil.iter_modules(plugins.__path__, 'plugins.')):\n"
    "    importlib.import_module(name)",
    "listed": 'for file in os.listdir(os.path.join(os.path.dirname(__file__), "plugins")):\n'
    '    if file.endswith(".py"):\n        importlib.import_module("plugins." + file[:-3])',
    "globbed": 'for file in (pathlib.Path(__file__).parent / "plugins").glob("*.py"):\n'
    '    importlib.import_module(f"plugins.{file.stem}")',
    "globbed_by_name": 'import glob\nfor file in glob.glob(os.path.dirname(__file__) + "/plugins/*.py"):\n'
    '    importlib.import_module("plugins." + os.path.basename(file)[:-3])',
}


@pytest.mark.parametrize("case", FOLDERS)
def test_modules_that_a_folder_lists_are_followed(case: str, project: Project) -> None:
    files = {"plugins/__init__.py": "", "plugins/a.py": "import yaml", "plugins/b.py": "import numpy"}
    script = project({"main.py": f"import importlib, os, pathlib\n{FOLDERS[case]}", **files})
    assert roles(analyze(str(script))) == {"numpy": "direct", "pyyaml": "direct"}


@pytest.mark.parametrize("given", ["", 'Settings(codec="yaml.safe_load")'])
def test_a_field_that_imports_what_its_text_names_needs_it(given: str, needs: Needs) -> None:
    default = "" if given else ' = "yaml.safe_load"'
    source = (
        f"from pydantic import BaseModel, ImportString\nclass Settings(BaseModel):\n    codec: ImportString{default}\n"
    )
    assert needs(source + given)["pyyaml"] == "direct"


PLAIN_YAML = """
# a comment
version: 1
"quoted": 'text: more'   # behind it
nested:
  list:
    - name: a
      kind: [x, "y"]
    - b
  empty:
flat:
- 1
- true
"""


def test_plain_yaml_is_read() -> None:
    assert read_plain_yaml(PLAIN_YAML) == {
        "version": 1,
        "quoted": "text: more",
        "nested": {"list": ({"name": "a", "kind": ("x", "y")}, "b"), "empty": None},
        "flat": (1, True),
    }


@pytest.mark.parametrize(
    "text", ["", "a: &x 1", "a: |\n  text", "a: 1\n- b", "{a: 1}", "a: !tag x", "a:\n    b: 1\n  c: 2"]
)
def test_what_is_no_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"plain YAML|lines"):
        read_plain_yaml(text)


def test_configuration_in_an_ini_file_says_what_is_loaded(project: Project) -> None:
    source = "import configparser, importlib\nc = configparser.ConfigParser()\nc.read('a.ini')\n"
    script = project({"main.py": f"{source}importlib.import_module(c['a']['codec'])", "a.ini": "[a]\ncodec = numpy\n"})
    assert roles(analyze(str(script))) == {"numpy": "direct"}


def test_configuration_in_yaml_says_what_is_loaded(project: Project) -> None:
    source = "import importlib, yaml\nwith open('a.yaml') as file: c = yaml.safe_load(file)\n"
    script = project({"main.py": f"{source}importlib.import_module(c['codec'])", "a.yaml": "codec: numpy\n"})
    assert roles(analyze(str(script))) == {"numpy": "direct", "pyyaml": "direct"}
