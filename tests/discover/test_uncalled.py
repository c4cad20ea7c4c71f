"""Functions of a script that cannot be called when it runs need nothing; wherever that is not certain they count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

UNCALLED = "def unused():\n    import yaml\n    return yaml\n"
Needs = Callable[..., dict[str, str]]


@pytest.mark.parametrize("program", ["print(1)", "if __name__ == '__main__':\n    pass", "for _ in ():\n    pass"])
def test_what_only_an_uncalled_function_imports_is_optional(needs: Needs, program: str) -> None:
    assert needs(f"{UNCALLED}{program}\n") == {"pyyaml": "optional"}


def test_of_an_uncalled_function_dynamic_and_hidden_imports_are_optional_too(needs: Needs) -> None:
    assert needs("import importlib\ndef unused():\n    importlib.import_module('yaml')\nprint(1)\n") == {
        "pyyaml": "optional"
    }


@pytest.mark.parametrize(
    "rest",
    [
        "X = 1",  # only definitions: a module for others
        "unused()",
        "print(unused)",
        "print('unused')",
        "print(globals())",
        "import fire\nfire.Fire()",
        "import sys\ngetattr(sys.modules['__main__'], 'un' + 'used')()",
        "import other\nother.unused = 1\nprint(1)",
        "def unused():\n    pass\nprint(1)",
        "class A:\n    def unused(self): ...\nprint(1)",
        "from os import path as unused\nprint(1)",
    ],
)
def test_where_a_call_is_possible_it_counts(needs: Needs, rest: str) -> None:
    assert needs(f"{UNCALLED}{rest}\n", exclude=["fire", "other"]) == {"pyyaml": "direct"}


@pytest.mark.parametrize(
    "function",
    [
        "def test_it():\n    import yaml",
        "def pytest_configure():\n    import yaml",
        "import atexit\n@atexit.register\ndef unused():\n    import yaml",
        "class A:\n    def unused(self):\n        import yaml",
        "def unused():\n    import yaml\ndef used():\n    unused()\nused()",
    ],
)
def test_what_others_may_find_counts(needs: Needs, function: str) -> None:
    assert needs(f"{function}\nprint(1)\n") == {"pyyaml": "direct"}


def test_a_function_that_is_asked_about_counts_whole(needs: Needs) -> None:
    assert needs(f"{UNCALLED}print(1)\n", "unused") == {"pyyaml": "direct"}
