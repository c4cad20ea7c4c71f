"""Which constants a program's expressions are seen to be, in one file and across its modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envpack import analyze
from tests.discover.conftest import Project, roles

Needs = Callable[..., dict[str, str]]

NAMES = {
    "keyword_of_format": "'{top}.nodes'.format(top='yaml')",
    "position_of_format": "'{1}.{0}'.format('nodes', 'yaml')",
    "index_of_format": "'{0[1]}.nodes'.format(('json', 'yaml'))",
    "table_of_format": "'{top}.nodes'.format(**{'top': 'yaml'})",
    "format_map": "'{top}.nodes'.format_map({'top': 'yaml'})",
    "percent_table": "'%(top)s.nodes' % {'top': 'yaml'}",
    "template": "string.Template('$top.nodes').substitute(top='yaml')",
    "part_of_split": "'yaml:dump'.split(':')[0]",
    "last_of_rsplit": "'io/yaml'.rsplit('/', 1)[-1]",
    "reversed_text": "'lmay'[::-1]",
    "decoded": "b'yaml'.decode()",
    "json": "json.loads('{\"module\": \"yaml\"}')['module']",
    "called_table": "dict(module='yaml')['module']",
    "table_from_table": "{**{'module': 'yaml'}, 'other': 'json'}['module']",
    "made_table": "{name.lower(): name for name in ('yaml', 'json')}['yaml']",
    "default_of_environment": "os.environ.get('PARSER_MODULE', 'yaml')",
    "fallback_of_environment": "os.environ.get('PARSER_MODULE') or 'yaml'",
    "file_name": "os.path.splitext('yaml.py')[0]",
}


@pytest.mark.parametrize("case", NAMES)
def test_name_that_is_put_together_is_known(case: str, needs: Needs) -> None:
    assert needs(f"import importlib, json, os, string\nimportlib.import_module({NAMES[case]})") == {"pyyaml": "direct"}


UNPACKED = {
    "partition": "module, _, name = 'yaml:dump'.partition(':')",
    "star_behind": "module, *rest = 'yaml.nodes.Node'.split('.')",
    "star_before": "*rest, module = 'nodes.of.yaml'.split('.')",
    "star_between": "first, *rest, module = ('a', 'b', 'c', 'yaml')",
    "what_a_star_takes": "first, *rest = 'a.yaml'.split('.')\nmodule = rest[0]",
    "nested": "(a, (module, b)), c = ('x', ('yaml', 'y')), 'z'",
    "loop": "for name, (module, kind) in {'a': ('yaml', 1)}.items(): pass",
    "loop_over_zip": "for name, module in zip(('a',), ('yaml',)): pass",
    "loop_over_enumerate": "for number, module in enumerate(['yaml']): pass",
    "loop_over_made": "for module in [f'{name}ml' for name in ('ya',)]: pass",
    "walrus": "if (module := 'ya' + 'ml'): pass",
}


@pytest.mark.parametrize("case", UNPACKED)
def test_part_of_what_is_taken_apart_is_known(case: str, needs: Needs) -> None:
    assert needs(f"import importlib\n{UNPACKED[case]}\nimportlib.import_module(module)") == {"pyyaml": "direct"}


def test_entry_of_a_table_is_taken_apart_for_every_key(needs: Needs) -> None:
    source = """
        from importlib import import_module
        READERS = {"toml": "tomllib:loads", "yaml": "yaml:safe_load", "date": "dateutil.parser:parse"}
        def reader(kind):
            module, _, name = READERS[kind].partition(":")
            return getattr(import_module(module), name)
        """
    assert needs(source) == {"pyyaml": "direct", "python-dateutil": "direct"}


ELSEWHERE = {
    "from": "from choices import ENGINE as name",
    "module": "import choices\nname = choices.ENGINE",
    "module_renamed": "import choices as c\nname = c.ENGINE",
    "star": "from choices import *\nname = ENGINE",
    "given_on": "from package import ENGINE\nname = ENGINE",
    "submodule": "import package.inner\nname = package.inner.ENGINE",
    "from_package": "from package import inner\nname = inner.ENGINE",
    "relative_chain": "import package\nname = package.inner.ENGINE",
    "class": "from choices import Choice\nname = Choice.engine",
    "base_class": "from choices import Special\nname = Special.engine",
    "enumeration": "from choices import Kind\nname = Kind.YAML.value",
    "table": "from choices import TABLE\nname = TABLE['engine']",
    "put_together": "import choices\nname = choices.FIRST + 'ml'",
    "object": "import types\no = types.SimpleNamespace(engine='yaml')\nname = o.engine",
    "instance": "from choices import Choice\nname = Choice().engine",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_constant_of_another_local_module_is_known(case: str, project: Project) -> None:
    files = {
        "main.py": f"import importlib\n{ELSEWHERE[case]}\nimportlib.import_module(name)",
        "choices.py": """
            import enum
            ENGINE, FIRST, TABLE = "yaml", "ya", {"engine": "yaml"}
            class Choice:
                engine = "yaml"
            class Special(Choice):
                pass
            class Kind(enum.Enum):
                YAML = "yaml"
            """,
        "package/__init__.py": "from .inner import ENGINE",
        "package/inner.py": 'ENGINE = "yaml"',
    }
    assert roles(analyze(project(files))) == {"pyyaml": "direct"}


READ = {
    "path": "json.loads(Path(__file__).with_name('names.json').read_text())",
    "handle": "json.load(open('names.json'))",
    "content": "json.loads(open('names.json').read())",
    "toml": "tomllib.loads(Path('names.toml').read_text())",
}


@pytest.mark.parametrize("case", READ)
def test_names_that_a_file_holds_are_known(case: str, project: Project) -> None:
    main = f"import importlib, json, tomllib\nfrom pathlib import Path\nwanted = {READ[case]}\n"
    main += "for name in wanted['modules']: importlib.import_module(name)"
    files = {"main.py": main, "names.json": '{"modules":\n["yaml"]}', "names.toml": 'modules = ["yaml"]\n'}
    assert roles(analyze(project(files))) == {"pyyaml": "direct"}


def test_names_of_a_file_opened_around_are_known(project: Project) -> None:
    main = "import importlib, json\nwith open('names.json') as file:\n    wanted = json.load(file)\n"
    main += "importlib.import_module(wanted[0])"
    assert roles(analyze(project({"main.py": main, "names.json": '["yaml"]'}))) == {"pyyaml": "direct"}


def test_modules_that_ask_each_other_for_a_constant_end(project: Project) -> None:
    files = {
        "main.py": "import importlib\nfrom a import NAME\nimportlib.import_module(NAME)",
        "a.py": "from b import NAME\nNAME = NAME + 'x'",
        "b.py": "import a\nNAME = a.NAME",
    }
    assert [item.kind for item in analyze(project(files)).unresolved] == ["dynamic"]


def test_default_of_the_environment_decides_no_condition(needs: Needs) -> None:
    source = "import os\nif os.environ.get('FAST', '') == '1':\n    import numpy\nelse:\n    import yaml"
    assert needs(source) == {"numpy": "direct", "pyyaml": "direct"}


def test_width_of_gigabytes_is_not_formatted(needs: Needs) -> None:
    assert needs("import importlib\nimportlib.import_module('{:>99999999999}'.format('yaml'))") == {}
