"""Live callables: what lies under their wrappers and in their values."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from envpack import analyze
from envpack.errors import TargetNotFoundError
from tests.discover.conftest import Project, relative, roles

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a source text as the module `main`, as a program that calls `analyze` would have."""

    def run(source: str) -> ModuleType:
        path = project({"main.py": source})
        spec = importlib.util.spec_from_file_location("live_main", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "live_main", module)
        spec.loader.exec_module(module)
        return module

    return run


def needed(target: Callable[..., Any]) -> dict[str, str]:
    return roles(analyze(target))


def test_function_is_found_in_its_file(load: Load) -> None:
    module = load("import numpy as np, yaml\ndef g(x): return np.sum(x)\ndef f(x): return g(x)\ndef h(x): return yaml")
    found = analyze(module.f)
    assert roles(found) == {"numpy": "direct"}
    assert found.distributions[0].evidence[0].line == 1
    assert found.target == f"{module.__file__}:f"


def test_wrappers_are_taken_off(load: Load) -> None:
    module = load(
        """
        import functools, numpy as np, yaml
        def wrap(fn):
            @functools.wraps(fn)
            def inner(*a): return yaml, fn(*a)
            return inner
        def g(a, b): return np.sum(a)
        @functools.lru_cache
        def cached(a): return np.sum(a)
        @wrap
        def wrapped(a): return np.sum(a)
        """
    )
    assert needed(functools.partial(module.g, 1)) == {"numpy": "direct"}
    assert needed(module.cached) == {"numpy": "direct"}
    assert needed(module.wrapped) == {"numpy": "direct", "pyyaml": "direct"}


def test_nested_functions_and_lambdas_are_told_apart_by_their_line(load: Load) -> None:
    module = load(
        """
        import numpy as np, yaml
        a = lambda x: np.sum(x)
        b = lambda x: yaml.dump(x)
        def outer():
            import dateutil
            def f(): return dateutil
            return f
        """
    )
    assert needed(module.a) == {"numpy": "direct"}
    assert needed(module.b) == {"pyyaml": "direct"}
    assert needed(module.outer()) == {"python-dateutil": "direct"}


def test_closure_cells_say_what_a_name_is(load: Load) -> None:
    module = load("def make(thing):\n    def f(): return thing\n    return f")
    assert needed(module.make(np)) == {"numpy": "direct"}
    assert needed(module.make(np.zeros(2))) == {"numpy": "direct"}
    assert needed(module.make([{"a": np.zeros(2)}])) == {"numpy": "direct"}
    assert needed(module.make(yaml.safe_load)) == {"pyyaml": "direct"}
    assert needed(module.make(3)) == {}


def test_function_in_a_closure_travels_and_is_followed(load: Load) -> None:
    module = load(
        "import yaml\ndef g(): return yaml\ndef make(fn):\n    def f(): return fn()\n    return f\ndef h(): return 1"
    )
    assert needed(module.make(module.g)) == {"pyyaml": "direct"}
    assert needed(module.make(module.h)) == {}


def test_globals_that_no_text_binds_count_by_value(load: Load) -> None:
    module = load("def f(): return injected")
    module.injected = np  # type: ignore[attr-defined]
    assert needed(module.f) == {"numpy": "direct"}


def test_methods_classes_and_instances_need_their_class(load: Load) -> None:
    module = load(
        """
        import numpy as np, yaml
        class K:
            def __init__(self, held=None): self.held = held
            def a(self): return self.b()
            def b(self): return np.sum(1)
            def __call__(self): return 1
        """
    )
    assert needed(module.K) == {"numpy": "direct"}
    assert needed(module.K().a) == {"numpy": "direct"}
    assert needed(module.K.a) == {"numpy": "direct"}
    assert needed(module.K(held=yaml)) == {"numpy": "direct", "pyyaml": "direct"}


def test_functions_of_libraries_need_their_library() -> None:
    assert needed(np.linalg.norm) == {"numpy": "direct"}
    assert needed(np.dot) == {"numpy": "direct"}
    assert needed(np.sin) == {"numpy": "direct"}
    assert needed(math.sqrt) == {}
    assert needed([].append) == {}


def test_function_without_source_is_read_from_its_code() -> None:
    names: dict[str, Any] = {"np": np}
    exec("import yaml\ndef helper(): return yaml.dump(1)", names)
    exec("def f(x, d=np.zeros(1)):\n    import dateutil.parser\n    return [np.sum(v) for v in x], helper()", names)
    assert needed(names["f"]) == {"numpy": "direct", "python-dateutil": "direct", "pyyaml": "direct"}


def test_source_that_changed_since_does_not_mislead(load: Load) -> None:
    module = load("import numpy as np\ndef f(x): return np.sum(x)")
    Path(str(module.__file__)).write_text("\n\n\n\nimport yaml\ndef f(x): return yaml")
    assert needed(module.f) == {"numpy": "direct"}


def test_values_are_looked_at_without_running_their_code(load: Load) -> None:
    module = load(
        """
        class Loud:
            def __getattr__(self, name): raise SystemExit(f"ran: {name}")
            def __eq__(self, other): raise SystemExit("ran: __eq__")
            __hash__ = None
        def make(thing):
            def f(): return thing
            return f
        """
    )
    assert needed(module.make(module.Loud())) == {}


def test_local_module_of_a_live_function_travels(project: Project, load: Load) -> None:
    script = project({"mine.py": "import yaml"})
    module = load("def f():\n    import mine\n    return mine")
    found = analyze(module.f)
    assert relative(found.local_files, script.parent) == ["mine.py"]


def test_what_is_no_callable_is_refused() -> None:
    with pytest.raises(TargetNotFoundError, match="not a function: 3"):
        analyze(3)  # type: ignore[arg-type]


def test_what_the_text_names_and_no_value_takes_along_is_optional(load: Load) -> None:
    module = load(
        """
        import math as plain
        import yaml
        from numpy import __version__ as release, pi
        library = plain if yaml.__name__ == "yaml" else yaml
        def number(): return pi
        def text(): return release
        def chosen(): return library.sqrt(4)
        def imports():
            import yaml
            return release, yaml
        """
    )
    assert needed(module.number) == {}
    assert needed(module.text) == {"numpy": "optional"}
    assert "direct" not in needed(module.chosen).values()
    assert needed(module.imports) == {"numpy": "optional", "pyyaml": "direct"}


def test_bytes_that_hold_a_pickle_need_what_it_was_made_of(load: Load) -> None:
    module = load(
        """
        import pickle
        from dateutil.tz import tzoffset
        STATE = pickle.dumps(tzoffset("x", 60))
        def again(): return pickle.loads(STATE)
        """
    )
    assert needed(module.again) == {"python-dateutil": "direct"}
