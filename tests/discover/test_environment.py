"""Which distribution a module belongs to, in a real virtual environment that has neither envpack nor pip."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from envpack import analyze
from envpack.discover import inspect_interpreter
from envpack.errors import InterpreterError
from tests.discover.conftest import Environment, Project, roles


def test_namespace_packages_resolve_by_file(environment: Environment, project: Project) -> None:
    environment.install("corp-auth", files=("corp/auth/__init__.py",))
    environment.install("corp-api", files=("corp/cloud/api.py",))
    script = project({"main.py": "import corp.auth\nfrom corp.cloud import api\ndef f(): return corp.auth.x"})
    assert roles(analyze(script, python=environment.python)) == {"corp-auth": "direct", "corp-api": "direct"}
    assert roles(analyze(f"{script}:f", python=environment.python)) == {"corp-auth": "direct"}


def test_module_of_no_distribution_in_a_namespace_is_missing(environment: Environment, project: Project) -> None:
    environment.install("corp-auth", files=("corp/auth/__init__.py",))
    found = analyze(project({"main.py": "\nfrom corp import billing"}), python=environment.python)
    assert [(item.module, item.line, item.kind) for item in found.unresolved] == [("corp.billing", 2, "missing")]


def test_two_distributions_with_one_top_level_name_are_told_apart(environment: Environment, project: Project) -> None:
    environment.install("image-core", files=("image/__init__.py",))
    environment.install("image-extra", files=("image/extra.py",))
    script = project({"main.py": "import image", "other.py": "import image.extra"})
    assert roles(analyze(script, python=environment.python)) == {"image-core": "direct"}
    assert "image-extra" in roles(analyze(script.with_name("other.py"), python=environment.python))


def test_extension_modules_are_found_by_the_suffix_of_the_interpreter(
    environment: Environment, project: Project
) -> None:
    soabi = inspect_interpreter(environment.python).soabi
    environment.install("fast-thing", files=(f"fast.{soabi}.so",))
    assert roles(analyze(project({"main.py": "import fast"}), python=environment.python)) == {"fast-thing": "direct"}


def test_requirements_are_followed_with_markers_and_extras(environment: Environment, project: Project) -> None:
    environment.install(
        "top",
        files=("top.py",),
        requires=(
            "middle[fast]>=1",
            "windows-only; sys_platform == 'win32'",
            "not-asked; extra == 'plot'",
            "ring",
        ),
    )
    environment.install("middle", requires=("bottom", "speed; extra == 'fast'"))
    environment.install("bottom")
    environment.install("speed")
    environment.install("ring", requires=("top",))
    environment.install("not-asked")
    found = analyze(project({"main.py": "import top"}), python=environment.python)
    assert {item.name: item.role for item in found.distributions} == {
        "top": "direct",
        "middle": "transitive",
        "bottom": "transitive",
        "speed": "transitive",
        "ring": "transitive",
    }
    assert {item.name: item.required_by for item in found.distributions}["speed"] == ("middle",)


def test_requirement_that_is_not_installed_is_said(environment: Environment, project: Project) -> None:
    environment.install("top", files=("top.py",), requires=("gone>=1",))
    found = analyze(project({"main.py": "import top"}), python=environment.python)
    assert [(item.module, item.kind) for item in found.unresolved] == [("gone", "requirement")]
    found.raise_missing()


def test_folded_header_does_not_hide_the_requirements_after_it(environment: Environment, project: Project) -> None:
    environment.install("top", files=("top.py",), extra_metadata={})
    metadata = environment.site / "top-1.0.dist-info" / "METADATA"
    metadata.write_text(
        "Name: top\nVersion: 1.0\nLicense: A\n        \n        B\nRequires-Dist: low\n\nRequires-Dist: no\n"
    )
    environment.install("low")
    found = analyze(project({"main.py": "import top"}), python=environment.python)
    assert [item.name for item in found.distributions] == ["low", "top"]


START_FILES = {
    "path": ("{folder}", ""),
    "mapping": ("import _finder", "MAPPING: dict[str, str] = {{'devpkg': '{folder}/devpkg'}}"),
    "map_module": ("import _finder", "_F.map_module('devpkg', '{folder}/devpkg/__init__.py')"),
}


@pytest.mark.parametrize("style", START_FILES)
def test_editable_installs_are_recognised(
    style: str, environment: Environment, project: Project, tmp_path: Path
) -> None:
    package = tmp_path / "elsewhere" / "src" / "devpkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import nothing_that_counts")
    starter, finder = (text.format(folder=package.parent) for text in START_FILES[style])
    (environment.site / "dev.pth").write_text(starter + "\n")
    (environment.site / "_finder.py").write_text(f"class _F: map_module = print\n{finder}\n")
    url = json.dumps({"url": (tmp_path / "elsewhere").as_uri(), "dir_info": {"editable": True}})
    environment.install("dev-pkg", files=("dev.pth", "_finder.py"), extra_metadata={"direct_url.json": url})
    found = analyze(project({"main.py": "import devpkg.sub, devpkg"}), python=environment.python)
    assert [(item.name, item.source, item.role) for item in found.distributions] == [("dev-pkg", "editable", "direct")]
    assert found.local_files == ()


def test_interpreter_is_described(environment: Environment) -> None:
    other = inspect_interpreter(environment.python)
    assert other.version == ".".join(map(str, sys.version_info[:3]))
    assert other.abi == f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert other.purelib == str(environment.site)
    assert other.prefix != other.base_prefix == sys.base_prefix
    assert "" not in other.sys_path
    assert "json" in other.stdlib_modules


def test_folder_of_an_environment_stands_for_its_interpreter(environment: Environment) -> None:
    folder = str(Path(environment.python).parent.parent)
    assert inspect_interpreter(folder).executable == environment.python


@pytest.mark.parametrize("python", ["/no/such/python", "/", "no-such-command", "/bin/true", __file__, "/bin/cat"])
def test_what_is_no_interpreter_is_refused(python: str) -> None:
    with pytest.raises(InterpreterError, match="interpreter"):
        inspect_interpreter(python)


def test_neighbour_of_a_script_inside_a_development_project_is_a_local_file(
    environment: Environment, project: Project, tmp_path: Path
) -> None:
    script = project({"pkg/__init__.py": "", "examples/main.py": "import helper, pkg", "examples/helper.py": ""})
    (environment.site / "dev.pth").write_text(f"{script.parent}\n")
    url = json.dumps({"url": script.parent.as_uri(), "dir_info": {"editable": True}})
    environment.install("dev-pkg", files=("dev.pth",), extra_metadata={"direct_url.json": url})
    found = analyze(script.parent / "examples" / "main.py", python=environment.python)
    assert roles(found) == {"dev-pkg": "direct"}
    assert [Path(file).name for file in found.local_files] == ["helper.py"]


def test_what_a_development_install_makes_importable_beside_its_packages_travels_as_a_file(
    environment: Environment, project: Project, tmp_path: Path
) -> None:
    files = {"pkg/__init__.py": "", "tests/unit/helpers.py": "import numpy", "tests/unit/main.py": ""}
    root = project(files).parent
    script = root / "tests" / "unit" / "main.py"
    script.write_text("import tests.unit.helpers, pkg")
    (environment.site / "dev.pth").write_text(f"{root}\n")
    url = json.dumps({"url": root.as_uri(), "dir_info": {"editable": True}})
    environment.install("dev-pkg", files=("dev.pth",), extra_metadata={"direct_url.json": url})
    environment.install("numpy", files=("numpy/__init__.py",))
    found = analyze(script, python=environment.python)
    assert roles(found) == {"dev-pkg": "direct", "numpy": "direct"}
    assert [str(Path(file).relative_to(root)) for file in found.local_files] == ["tests/unit/helpers.py"]
    assert found.local_roots == (str(root),)


@pytest.mark.parametrize("word", ["__path__ = __import__('pkgutil').extend_path(__path__, __name__)", "x = 1"])
def test_local_folder_extends_an_installed_package_only_where_that_says_so(
    word: str, environment: Environment, project: Project
) -> None:
    environment.install("tools-core", sources={"tools/__init__.py": word}, files=("tools/core.py",))
    environment.install("helped", files=("helped/__init__.py",))
    files = {"main.py": "from tools import core\nimport tools.mine", "tools/mine.py": "import helped"}
    found = analyze(project(files), python=environment.python)
    assert ("helped" in roles(found)) == ("extend_path" in word)
