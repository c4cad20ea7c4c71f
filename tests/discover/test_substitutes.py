"""Imports that may fail and leave `None` or a flag: needed where a use does not ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Needs = Callable[..., dict[str, str]]

NONE = "try:\n    import yaml\nexcept ImportError:\n    yaml = None\n"
FLAG = "try:\n    import yaml\n    HAVE = True\nexcept ImportError:\n    HAVE = False\n"
NAME = "try:\n    from yaml import dump\nexcept ImportError:\n    dump = None\n"

UNGUARDED = {
    "attribute": NONE + "print(yaml.dump(1))",
    "call": NAME + "print(dump(1))",
    "in_a_function": NONE + "def f(): return yaml.dump(1)",
    "base": NONE + "class D(yaml.Dumper): pass",
    "decorator": NAME + "@dump\ndef f(): pass",
    "flag_not_asked": FLAG + "yaml.dump(1)",
    "asked_elsewhere": NONE + "if yaml:\n    print(1)\nyaml.dump(1)",
    "ends_without": NONE + "if yaml is None:\n    raise SystemExit('no yaml')\nyaml.dump(1)",
    "asserted": NONE + "assert yaml is not None\nyaml.dump(1)",
}
GUARDED = {
    "if_not_none": NONE + "if yaml is not None:\n    yaml.dump(1)",
    "if_name": NONE + "if yaml:\n    yaml.dump(1)",
    "else": NONE + "if yaml is None:\n    print(1)\nelse:\n    yaml.dump(1)",
    "flag": FLAG + "if HAVE:\n    yaml.dump(1)",
    "flag_made_later": NONE + "HAVE = yaml is not None\nif HAVE:\n    yaml.dump(1)",
    "expression": NONE + "x = yaml.dump(1) if yaml else ''",
    "and": NONE + "x = yaml and yaml.dump(1)",
    "early_return": NONE + "def f():\n    if yaml is None:\n        return ''\n    return yaml.dump(1)",
    "continue": NONE + "for i in range(3):\n    if not yaml:\n        continue\n    yaml.dump(i)",
    "caught": NONE + "try:\n    yaml.dump(1)\nexcept AttributeError:\n    pass",
    "handed_on": NONE + "print(yaml)",
    "replaced": NONE + "if yaml is None:\n    import json as yaml\nyaml.dump(1)",
    "substitute": "try:\n    from yaml import dump\nexcept ImportError:\n    def dump(x): return x\ndump(1)",
    "lambda": "try:\n    from yaml import dump\nexcept ImportError:\n    dump = lambda x: x\ndump(1)",
    "other_library": "try:\n    import yaml as y\nexcept ImportError:\n    import json as y\ny.dumps(1)",
    "skipped_test": FLAG + "@skipunless(HAVE)\ndef test(): yaml.dump(1)",
    "comprehension": NONE + "x = [yaml.dump(i) for i in range(3) if yaml]",
    "lazy_annotation": "from __future__ import annotations\n" + NONE + "def f(x: yaml.Node): pass",
}


@pytest.mark.parametrize("case", UNGUARDED)
def test_use_that_does_not_ask_needs_the_import(case: str, needs: Needs) -> None:
    assert needs(UNGUARDED[case]) == {"pyyaml": "direct"}


@pytest.mark.parametrize("case", GUARDED)
def test_import_is_optional_where_every_use_asks(case: str, needs: Needs) -> None:
    assert set(needs(GUARDED[case]).values()) <= {"optional"}


def test_only_uses_that_a_function_reaches_count(needs: Needs) -> None:
    source = NONE + "import numpy\ndef f(): return numpy.sum(1)\ndef g(): return yaml.dump(1)"
    assert needs(source, "f") == {"numpy": "direct"}
    assert needs(source, "g") == {"pyyaml": "direct"}
