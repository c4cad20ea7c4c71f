import subprocess
import sys

import pytest

from envpack_executor.extras import need
from tests.executor.helpers import environ


def test_missing_extra_is_named_with_what_to_install():
    with pytest.raises(ImportError) as caught:
        need("no_such_module_anywhere", "envpack_executor.dask")

    assert str(caught.value) == ("envpack_executor.dask needs no_such_module_anywhere: pip install 'envpack-hpc[dask]'")
    assert caught.value.name == "no_such_module_anywhere"


def test_extra_that_is_there_is_imported():
    need("colorsys", "envpack_executor.dask")

    assert "colorsys" in sys.modules


def test_module_that_lacks_something_itself_raises_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "half_installed_module.py").write_text("import no_such_part_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_part_anywhere"):
        need("half_installed_module", "envpack_executor.dask")


@pytest.mark.parametrize(("plug", "module"), [("parsl", "parsl"), ("joblib", "joblib"), ("dask", "distributed")])
def test_plug_without_its_extra_says_what_to_install(plug, module):
    program = f"import sys; sys.modules[{module!r}] = None; import envpack_executor; import envpack_executor.{plug}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ(), check=False)

    wanted = f"ImportError: envpack_executor.{plug} needs {module}: pip install 'envpack-hpc[{plug}]'"
    assert done.stderr.splitlines()[-1] == wanted
