"""Local files, search paths, guards and imports by name."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from envpack import analyze
from tests.discover.conftest import Environment, Project, relative, roles

Needs = Callable[..., dict[str, str]]


def test_local_modules_travel_with_their_packages_and_what_they_import(project: Project) -> None:
    script = project(
        {
            "main.py": "from pkg.sub.mod import run\nimport unused\ndef f(x): return run(x)",
            "pkg/__init__.py": "import yaml",
            "pkg/sub/__init__.py": "",
            "pkg/sub/mod.py": "from ..near import go\nfrom . import other\nrun = go",
            "pkg/sub/other.py": "",
            "pkg/near.py": "import numpy",
            "pkg/far.py": "import scipy",
            "unused.py": "import sklearn",
        }
    )
    found = analyze(f"{script}:f")
    assert relative(found.local_files, script.parent) == [
        "pkg/__init__.py",
        "pkg/near.py",
        "pkg/sub/__init__.py",
        "pkg/sub/mod.py",
        "pkg/sub/other.py",
    ]
    assert found.local_roots == (str(script.parent),)
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct"}


def test_import_cycles_end(project: Project) -> None:
    script = project({"main.py": "import a", "a.py": "import b, yaml", "b.py": "import a, main"})
    found = analyze(script)
    assert relative(found.local_files, script.parent) == ["a.py", "b.py", "main.py"]


def test_local_file_shadows_a_distribution_and_a_standard_module(project: Project) -> None:
    script = project({"main.py": "import yaml, random, sys", "yaml.py": "", "random.py": "", "sys.py": "import numpy"})
    found = analyze(script)
    # sys is compiled into the interpreter: no file can shadow it.
    assert relative(found.local_files, script.parent) == ["random.py", "yaml.py"]
    assert found.distributions == ()


def test_folder_without_init_does_not_shadow_a_distribution(project: Project) -> None:
    script = project({"main.py": "import numpy", "numpy/readme.txt": ""})
    assert roles(analyze(script)) == {"numpy": "direct"}


@pytest.mark.parametrize(
    "change",
    [
        "sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))",
        "sys.path.append(str(Path(__file__).resolve().parent / 'lib'))",
        "HERE = Path(__file__).parent\nsys.path.append(f'{HERE}/lib')",
        "sys.path += ['lib']",
        "sys.path[:0] = ['lib']",
    ],
)
def test_folders_that_a_script_adds_to_its_search_path_are_searched(change: str, project: Project) -> None:
    head = "import sys, os\nfrom pathlib import Path\n"
    script = project({"main.py": head + change + "\nimport mine", "lib/mine.py": "import yaml"})
    found = analyze(script)
    assert relative(found.local_files, script.parent) == ["lib/mine.py"]
    assert found.local_roots == (str(script.parent / "lib"),)
    assert roles(found) == {"pyyaml": "direct"}


def test_script_inside_a_package_may_import_relatively(project: Project) -> None:
    main = project({"pkg/__init__.py": "", "pkg/tool.py": "from .near import x", "pkg/near.py": "import yaml"})
    found = analyze(main.parent / "pkg" / "tool.py")
    assert relative(found.local_files, main.parent) == ["pkg/__init__.py", "pkg/near.py"]
    assert found.local_roots == (str(main.parent),)


def test_broken_local_module_is_said_and_the_rest_answered(project: Project) -> None:
    found = analyze(project({"main.py": "import yaml\nimport broken", "broken.py": "def ("}))
    assert [(item.module, item.line, item.kind) for item in found.unresolved] == [("broken", 2, "source")]
    assert roles(found) == {"pyyaml": "direct"}


GUARDS = {
    "type_checking": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\nelse:\n    import yaml",
        {"pyyaml": "direct"},
    ),
    "type_checking_attribute": ("import typing as t\nif t.TYPE_CHECKING: import numpy", {}),
    "not_type_checking": ("from typing import TYPE_CHECKING\nif not TYPE_CHECKING: import numpy", {"numpy": "direct"}),
    "never": ("if False: import numpy\nif 0: import yaml\nwhile 0: pass", {}),
    "behind_a_return": ("def f():\n    return 1\n    import numpy\nf()", {}),
    "behind_a_return_in_a_branch": (
        "import os\ndef f():\n    if os.name:\n        return 1\n        import numpy\n    import yaml\nf()",
        {"pyyaml": "direct"},
    ),
    "behind_an_error": ("def f():\n    raise ValueError\n    import numpy\nf()", {}),
    "behind_an_exit": ("import sys, yaml\nprint(yaml)\nsys.exit(0)\nimport numpy", {"pyyaml": "direct"}),
    "behind_a_continue": (
        "for x in (1, 2):\n    continue\n    import numpy\nelse:\n    import yaml",
        {"pyyaml": "direct"},
    ),
    "in_a_loop_that_never_runs": ("while False:\n    import numpy\nelse:\n    import yaml", {"pyyaml": "direct"}),
    "behind_a_return_in_a_handler": (
        "def f():\n    try: print()\n    except OSError:\n        return 1\n        import numpy\n    import yaml\nf()",
        {"pyyaml": "direct"},
    ),
    "behind_a_return_in_a_case": (
        "def f(x):\n    match x:\n        case 1:\n            return\n            import numpy\n    import yaml\nf(1)",
        {"pyyaml": "direct"},
    ),
    "use_behind_a_return": ("import numpy as np\ndef f():\n    return 1\n    np.zeros(1)\nf()", {"numpy": "direct"}),
    "version": ("import sys\nif sys.version_info < (3, 8): import numpy\nelse: import yaml", {"pyyaml": "direct"}),
    "version_part": ("import sys\nif sys.version_info[0] == 2: import numpy", {}),
    "version_major": ("import sys\nPY2 = sys.version_info.major < 3\nif PY2: import numpy", {}),
    "platform": ("import sys\nif sys.platform == 'win32': import numpy", {}),
    "platform_prefix": ("import sys\nif sys.platform.startswith('win'): import numpy", {}),
    "os_name": ("import os\nif os.name == 'nt': import numpy", {}),
    "system": ("import platform\nif platform.system() in ('Windows', 'Darwin'): import numpy", {}),
    "switch_is_not_decided": ("FAST = False\nif FAST: import numpy", {"numpy": "direct"}),
    "fallback_to_standard": ("try: import yaml\nexcept ImportError: import json as yaml", {"pyyaml": "optional"}),
    "fallback_to_nothing": ("try:\n    import yaml\nexcept ImportError:\n    yaml = None", {"pyyaml": "optional"}),
    "no_fallback": ("try: import yaml\nexcept ImportError: raise SystemExit(1)", {"pyyaml": "direct"}),
    "exit": (
        "import sys\ntry: import yaml\nexcept ImportError:\n    print('no')\n    sys.exit(1)",
        {"pyyaml": "direct"},
    ),
    "only_arm_that_works": ("try: import nowhere as y\nexcept ImportError: import yaml as y", {"pyyaml": "direct"}),
    "first_of_two_installed": (
        "try: import yaml as y\nexcept ImportError: import numpy as y",
        {"pyyaml": "direct", "numpy": "optional"},
    ),
    "chain": (
        "try: import yaml as y\nexcept ImportError:\n    try: import numpy as y\n    except ImportError: y = 0",
        {"pyyaml": "optional", "numpy": "optional"},
    ),
    "other_error": ("try: import yaml\nexcept OSError: import numpy", {"pyyaml": "direct", "numpy": "direct"}),
    "bare_except": ("try: import yaml\nexcept: yaml = None", {"pyyaml": "optional"}),
    "suppress": ("import contextlib\nwith contextlib.suppress(ImportError): import yaml", {"pyyaml": "optional"}),
    "find_spec": ("from importlib.util import find_spec\nif find_spec('yaml'): import yaml", {"pyyaml": "optional"}),
    "silent_handler_but_used": ("try: import yaml\nexcept ImportError: pass\nyaml.dump(1)", {"pyyaml": "direct"}),
    "silent_handler_unused": ("try: import yaml\nexcept ImportError: pass", {"pyyaml": "optional"}),
    "else_branch": (
        "try: import yaml\nexcept ImportError: yaml = None\nelse: import numpy",
        {"pyyaml": "optional", "numpy": "optional"},
    ),
}


@pytest.mark.parametrize("case", GUARDS)
def test_guards_decide_which_imports_count(case: str, needs: Needs) -> None:
    source, expected = GUARDS[case]
    assert needs(source) == expected


DYNAMIC = {
    "import_module": "import importlib\nimportlib.import_module('yaml')",
    "import_module_renamed": "from importlib import import_module as im\nim('yaml')",
    "dunder": "__import__('yaml.nodes', fromlist=['Node'])",
    "constant": "import importlib\nNAME = 'yaml'\nimportlib.import_module(NAME)",
    "concatenation": "import importlib\nA = 'ya'\nimportlib.import_module(A + 'ml' + '.nodes')",
    "f_string": "import importlib\nA = 'ya'\nimportlib.import_module(f'{A}ml.nodes')",
    "format": "import importlib\nimportlib.import_module('{}.nodes'.format('yaml'))",
    "percent": "import importlib\nimportlib.import_module('%s.nodes' % 'yaml')",
    "join": "import importlib\nimportlib.import_module('.'.join(['yaml', 'nodes']))",
    "table": "import importlib\nT = {'y': 'yaml'}\ndef f(k): return importlib.import_module(T[k])",
    "loop": "import importlib\nfor n in ('yaml', 'json'): importlib.import_module(n)",
    "comprehension": "import importlib\nx = [importlib.import_module(n) for n in ['yaml']]",
    "default": "import importlib\ndef f(n='yaml'): return importlib.import_module(n)",
    "argument": "import importlib\ndef load(n): return importlib.import_module(n)\nload('yaml')",
    "keyword_argument": "import importlib\ndef go(*, n): return importlib.import_module(f'{n}.nodes')\ngo(n='yaml')",
    "choice": "import importlib, os\nimportlib.import_module('yaml' if os.environ.get('Y') else 'json')",
    "relative": "import importlib\nimportlib.import_module('.nodes', 'yaml')",
    "resolve_name": "import pkgutil\npkgutil.resolve_name('yaml:dump')",
    "resources": "from importlib import resources\nresources.files('yaml')",
    "logging": "import logging.config as c\nc.dictConfig({'handlers': {'h': {'class': 'yaml.nodes.Node'}}})",
    "command": "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'yaml'])",
}


@pytest.mark.parametrize("case", DYNAMIC)
def test_imports_by_a_constant_name_are_found(case: str, needs: Needs) -> None:
    assert needs(DYNAMIC[case]) == {"pyyaml": "direct"}


TAGS = {
    "name": "!!python/name:numpy.sum",
    "module": "!!python/module:numpy.linalg",
    "object": "!!python/object:numpy.random.Generator {}",
    "applied": "!!python/object/apply:numpy.zeros [3]",
    "full_tag": "!<tag:yaml.org,2002:python/object/new:numpy.ndarray> [3]",
}


@pytest.mark.parametrize("case", TAGS)
def test_tags_of_yaml_name_modules(case: str, project: Project) -> None:
    files = {
        "main.py": f"import yaml\nyaml.unsafe_load({f'a: {TAGS[case]}'!r})",
        "file.py": "import yaml\nwith open('a.yaml') as file:\n    yaml.load(file, Loader=yaml.Loader)",
        "safe.py": f"import yaml\nyaml.safe_load({f'a: {TAGS[case]}'!r})",
        "a.yaml": f"a: {TAGS[case]}",
    }
    script = project(files)
    both = {"pyyaml": "direct", "numpy": "direct"}
    assert [roles(analyze(script.with_name(name))) for name in ("main.py", "file.py")] == [both, both]
    assert roles(analyze(script.with_name("safe.py"))) == {"pyyaml": "direct"}


def test_import_by_a_computed_name_is_said(project: Project) -> None:
    found = analyze(project({"main.py": "import importlib, sys\n\nimportlib.import_module(sys.argv[1])"}))
    assert [(item.line, item.kind) for item in found.unresolved] == [(3, "dynamic")]
    assert "--include" in found.unresolved[0].hint


def test_missing_module_under_a_condition_is_no_reason_to_stop(project: Project) -> None:
    found = analyze(project({"main.py": "def f(fast):\n    if fast:\n        import nowhere"}))
    assert [(item.module, item.kind) for item in found.unresolved] == [("nowhere", "conditional")]
    found.raise_missing()


def test_missing_alternative_is_not_mentioned(project: Project) -> None:
    found = analyze(project({"main.py": "try: import nowhere\nexcept ImportError: nowhere = None"}))
    assert found.unresolved == ()


def test_include_exclude_and_map(project: Project) -> None:
    script = project({"main.py": "import numpy\nimport scipy\nimport nowhere.deep"})
    found = analyze(script, include=["PyYAML"], exclude=["scipy"], mapping={"nowhere": "python-dateutil"})
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct", "python-dateutil": "direct"}
    assert found.unresolved == ()


def test_other_versions_of_python_decide_version_guards(environment: Environment, project: Project) -> None:
    script = project(
        {"main.py": f"import sys\nif sys.version_info >= {sys.version_info[:2]}: import a\nelse: import b"}
    )
    environment.install("dist-a", files=("a.py",))
    assert roles(analyze(script, python=environment.python)) == {"dist-a": "direct"}


def test_function_behind_the_end_of_a_module_can_be_asked_for(project: Project) -> None:
    source = "import sys\nsys.exit(0)\nimport numpy\ndef f():\n    import yaml\n    return 1\n    numpy.zeros(1)\n"
    found = analyze(project({"main.py": source}), functions=["f"])
    assert roles(found) == {"pyyaml": "direct"}
