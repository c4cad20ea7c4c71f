"""From a module to its distribution, however that was installed: what the import system does, our answer says."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from envpack import analyze
from envpack.discover.environment.interpreter import inspect_interpreter
from tests.discover.conftest import Environment, Project, relative, roles


@pytest.fixture
def ask(environment: Environment, project: Project) -> object:
    """Return the roles of the distributions that one line of code needs in the environment."""

    def answer(source: str) -> dict[str, str]:
        return roles(analyze(project({"main.py": source}), python=environment.python))

    return answer


NAMESPACES = {
    "google-auth": ("google/auth/__init__.py",),
    "protobuf": ("google/protobuf/__init__.py",),
    "google-cloud-storage": ("google/cloud/storage/__init__.py", "google/cloud/storage/blob.py"),
    "zope.interface": ("zope/__init__.py", "zope/interface/__init__.py"),
    "zope.event": ("zope/__init__.py", "zope/event/__init__.py"),
    "jaraco.text": ("jaraco/text/__init__.py",),
    "jaraco.functools": ("jaraco/functools/__init__.py",),
    "matplotlib": ("matplotlib/__init__.py", "mpl_toolkits/mplot3d/__init__.py"),
    "basemap": ("mpl_toolkits/basemap/__init__.py",),
    "opencv-python-headless": ("cv2/__init__.py", "cv2/cv2.abi3.so"),
    "Pillow": ("PIL/__init__.py", "PIL/Image.py"),
    "ruamel.yaml": ("ruamel/yaml/__init__.py",),
    "attrs": ("attr/__init__.py", "attrs/__init__.py"),
    "typing_extensions": ("typing_extensions.py",),
    "enum34": ("enum/__init__.py",),
    "dataclasses": ("dataclasses.py",),
    "stubs-only": ("stubs/__init__.pyi",),
}

ANSWERS = {
    "import google.auth": {"google-auth"},
    "from google.cloud.storage import blob": {"google-cloud-storage"},
    "from google.cloud import storage": {"google-cloud-storage"},
    "from google import protobuf, auth": {"google-auth", "protobuf"},
    "import google.auth, google.cloud.storage.blob": {"google-auth", "google-cloud-storage"},
    "import zope.event": {"zope-event"},
    "from zope.interface import Interface": {"zope-interface"},
    "import jaraco.functools": {"jaraco-functools"},
    "from mpl_toolkits.mplot3d import Axes3D": {"matplotlib"},
    "from mpl_toolkits.basemap import Basemap": {"basemap"},
    "import cv2": {"opencv-python-headless"},
    "from PIL import Image": {"pillow"},
    "from ruamel.yaml import YAML": {"ruamel-yaml"},
    "import attr, attrs": {"attrs"},
    "import typing_extensions": {"typing-extensions"},
    # The standard library is searched before site-packages: a backport there is never imported.
    "import enum, dataclasses": set(),
    # Stubs are nothing that can be imported; the folder is an empty namespace.
    "import stubs": set(),
    # Linux tells names apart by case.
    "import pil": set(),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("environment"))
    for name, files in NAMESPACES.items():
        made.install(name, files=files)
    return made


@pytest.mark.parametrize("source", ANSWERS)
def test_names_of_modules_lead_to_the_distribution_that_has_the_file(
    source: str, shared: Environment, project: Project
) -> None:
    found = analyze(project({"main.py": source}), python=shared.python)
    direct = {name for name, role in roles(found).items() if role == "direct"}
    # Both zope distributions list the file of the namespace itself, and either may be named beside.
    assert direct == ANSWERS[source] or direct - ANSWERS[source] <= {"zope-event", "zope-interface"} & direct


def test_real_distributions_whose_names_differ_from_their_modules(project: Project) -> None:
    found = analyze(project({"main.py": "import yaml, dateutil.parser, sklearn.svm"}))
    assert {"pyyaml", "python-dateutil", "scikit-learn"} == set(roles(found))


@pytest.mark.parametrize(("suffix", "is_found"), [("{soabi}.so", 1), ("abi3.so", 1), ("so", 1), ("cpython-27m.so", 0)])
def test_extension_modules_are_known_by_the_suffixes_of_the_interpreter(
    suffix: str, is_found: bool, environment: Environment, ask
) -> None:
    soabi = inspect_interpreter(environment.python).soabi
    environment.install("fast", files=("pkg/__init__.py", f"pkg/_fast.{suffix.format(soabi=soabi)}"))
    found = ask("import pkg._fast")
    assert found == {"fast": "direct"}  # `pkg` is there; what it makes of the rest shows when it runs
    environment.install("single", files=(f"single.{suffix.format(soabi=soabi)}",))
    assert ask("import single") == ({"single": "direct"} if is_found else {})


def editable(environment: Environment, tmp_path: Path, starter: str, finder: str, *files: str) -> Path:
    """Install a project under development as its build backend would."""
    folder = tmp_path / "elsewhere"
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = {"dev.pth": starter, "_dev_editable.py": finder.replace("FOLDER", str(folder))}
    for name, text in names.items():
        (environment.site / name).write_text(text.replace("FOLDER", str(folder)) + "\n")
    url = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
    environment.install("dev-pkg", files=tuple(names), extra_metadata={"direct_url.json": url})
    return folder


SETUPTOOLS = "MAPPING: dict[str, str] = {'single': 'FOLDER/single', 'ns.part': 'FOLDER/src/part', 'pkg': 'FOLDER/pkg'}"


@pytest.mark.parametrize("module", ["single", "ns.part", "ns.part.inner", "pkg.sub.deep"])
def test_setuptools_maps_packages_modules_and_parts_of_namespaces(
    module: str, environment: Environment, ask, tmp_path: Path
) -> None:
    files = ("single.py", "src/part/__init__.py", "src/part/inner.py", "pkg/__init__.py", "pkg/sub/deep.py")
    editable(environment, tmp_path, "import _dev_editable", SETUPTOOLS, *files)
    assert ask(f"import {module}") == {"dev-pkg": "direct"}


SCIKIT_BUILD = """
class Finder: ...
def install(known_source_files, known_wheel_files, path):
    sys.meta_path.insert(0, Finder())
install({'pkg': 'FOLDER/src/pkg/__init__.py', 'pkg.pure': 'FOLDER/src/pkg/pure.py'},
        {'pkg._core': 'pkg/_core.so'}, None)
"""


@pytest.mark.parametrize("module", ["pkg", "pkg.pure", "pkg._core"])
def test_scikit_build_core_maps_sources_and_what_it_built(
    module: str, environment: Environment, ask, tmp_path: Path
) -> None:
    editable(environment, tmp_path, "import _dev_editable", SCIKIT_BUILD, "src/pkg/__init__.py", "src/pkg/pure.py")
    (environment.site / "pkg").mkdir()
    (environment.site / "pkg" / "_core.so").touch()
    # The folder with the built module looks like a namespace, but the finder is asked first.
    assert ask(f"import {module}") == {"dev-pkg": "direct"}


MESON = """
def install(package_name, names, path, cmd, verbose):
    sys.meta_path.insert(0, object())
install('dev-pkg', {'pkg'}, 'FOLDER/build', ['ninja'], False)
"""


@pytest.mark.parametrize("module", ["pkg", "pkg.pure", "pkg._core"])
def test_meson_python_maps_what_its_install_plan_says(
    module: str, environment: Environment, ask, tmp_path: Path
) -> None:
    files = ("pkg/__init__.py", "pkg/pure.py", "build/pkg/_core.so")
    folder = editable(environment, tmp_path, "import _dev_editable", MESON, *files)
    places = {"pkg/__init__.py": "py_purelib", "pkg/pure.py": "py_purelib", "build/pkg/_core.so": "py_platlib"}
    rows = {
        str(folder / file): {"destination": f"{{{place}}}/{file.removeprefix('build/')}"}
        for file, place in places.items()
    }
    (folder / "build" / "meson-info").mkdir()
    (folder / "build" / "meson-info" / "intro-install_plan.json").write_text(json.dumps({"python": rows}))
    assert ask(f"import {module}") == {"dev-pkg": "direct"}


def test_hatchling_installs_are_recognised_as_it_makes_them(environment: Environment, ask, tmp_path: Path) -> None:
    project = tmp_path / "real"
    (project / "src" / "realpkg").mkdir(parents=True)
    (project / "src" / "realpkg" / "__init__.py").touch()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "real-pkg"\nversion = "1.0"\n[tool.hatch.build.targets.wheel]\npackages = ["src/realpkg"]\n'
    )
    command = [sys.executable, "-m", "pip", "--python", environment.python, "install", "-q", "--no-build-isolation"]
    paths = ":".join(path for path in sys.path if path.endswith("site-packages"))
    subprocess.run(
        [*command, "--no-deps", "--no-index", "-e", str(project)], check=True, timeout=100, env={"PYTHONPATH": paths}
    )
    assert ask("import realpkg") == {"real-pkg": "direct"}


@pytest.mark.parametrize("layout", [".", "src"])
def test_develop_installs_by_an_egg_link_are_recognised(
    layout: str, environment: Environment, project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "tree" / layout
    (folder / "old_pkg").mkdir(parents=True)
    (folder / "old_pkg" / "__init__.py").touch()
    (tmp_path / "tree" / "setup.py").touch()
    (folder / "old_pkg.egg-info").mkdir()
    (folder / "old_pkg.egg-info" / "PKG-INFO").write_text("Name: old-pkg\nVersion: 3\n")
    (folder / "old_pkg.egg-info" / "top_level.txt").write_text("old_pkg\n")
    (environment.site / "old-pkg.egg-link").write_text(f"{folder}\n.")
    (environment.site / "easy-install.pth").write_text(f"{folder}\n")
    found = analyze(project({"main.py": "import old_pkg"}), python=environment.python)
    assert [(item.name, item.version, item.source) for item in found.distributions] == [("old-pkg", "3", "editable")]


def test_folder_that_a_start_file_adds_holds_local_files(
    environment: Environment, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "ours.py").write_text("import theirs")
    (environment.site / "anything.pth").write_text(f"# a comment\n{tmp_path / 'added'}\n")
    environment.install("theirs", files=("theirs.py",))
    found = analyze(project({"main.py": "import ours"}), python=environment.python)
    assert relative(found.local_files, tmp_path) == ["added/ours.py"]
    assert roles(found) == {"theirs": "direct"}


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_eggs_are_distributions(form: str, environment: Environment, ask) -> None:
    egg = environment.site / "layed-2.0-py3.egg"
    files = {
        "EGG-INFO/PKG-INFO": "Name: layed\nVersion: 2.0\n",
        "EGG-INFO/requires.txt": "low\n\n[more]\nhigh\n",
        "layed/__init__.py": "",
        "layed/sub.py": "",
    }
    if form == "archive":
        with zipfile.ZipFile(egg, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    else:
        for name, text in files.items():
            (egg / name).parent.mkdir(parents=True, exist_ok=True)
            (egg / name).write_text(text)
    environment.install("low")
    (environment.site / "easy-install.pth").write_text(f"./{egg.name}\n")
    assert ask("import layed.sub") == {"layed": "direct"}
    assert {item.name: item.version for item in analyze_names(environment, egg)} == {"layed": "2.0"}


def analyze_names(environment: Environment, egg: Path):
    from envpack.discover.environment.distributions import DistributionIndex

    assert str(egg) in inspect_interpreter(environment.python).sys_path
    return DistributionIndex([str(egg)])


def test_replaced_archive_is_read_anew(environment: Environment, ask) -> None:
    egg = environment.site / "layed.egg"
    for version in ("1.0", "2.0"):
        with zipfile.ZipFile(egg, "w") as archive:
            archive.writestr("EGG-INFO/PKG-INFO", f"Name: layed\nVersion: {version}\n")
            archive.writestr(f"module_{version[0]}.py", "")
        (environment.site / "easy-install.pth").write_text(f"./{egg.name}\n")
        assert ask(f"import module_{version[0]}") == {"layed": "direct"}
    assert ask("import module_1") == {}


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all" * 50])
def test_file_on_the_search_path_that_is_no_archive_holds_nothing(
    content: bytes, environment: Environment, ask
) -> None:
    (environment.site / "broken.zip").write_bytes(content)
    (environment.site / "broken.pth").write_text("./broken.zip\n")
    environment.install("alpha", files=("alpha.py",))
    assert ask("import alpha, nothing_there") == {"alpha": "direct"}


def test_metadata_without_a_list_of_files_is_told_by_top_level_or_name(environment: Environment, ask) -> None:
    for name, top_level in (("python-debianised", "debianised"), ("plain", "")):
        environment.install(name, files=(f"{top_level or name}/__init__.py",))
        folder = environment.site / f"{name.replace('-', '_')}-1.0.dist-info"
        (folder / "RECORD").unlink()
        if top_level:
            (folder / "top_level.txt").write_text(f"{top_level}\n")
    assert ask("import debianised, plain") == {"python-debianised": "direct", "plain": "direct"}


def test_what_an_uninstallation_left_behind_is_not_installed(environment: Environment, ask) -> None:
    environment.install("gone", "0.1", files=("kept.py",))
    for file in (environment.site / "gone-0.1.dist-info").iterdir():
        file.unlink()
    (environment.site / "gone-0.1.dist-info" / "INSTALLER").write_text("pip")
    environment.install("gone", "0.2", files=("kept.py",))
    environment.install("kept", "1.0", files=())
    (environment.site / "kept-1.0.dist-info").rename(environment.site / "~ept-1.0.dist-info")
    assert ask("import kept") == {"gone": "direct"}


def test_first_of_two_versions_on_the_search_path_counts(
    environment: Environment, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.install("alpha", "1.0", files=("alpha.py",))
    (tmp_path / "first" / "alpha-2.0.dist-info").mkdir(parents=True)
    (tmp_path / "first" / "alpha.py").touch()
    (tmp_path / "first" / "unowned.py").touch()
    metadata = tmp_path / "first" / "alpha-2.0.dist-info"
    (metadata / "METADATA").write_text("Name: alpha\nVersion: 2.0\n")
    (metadata / "RECORD").write_text("alpha.py,,\nalpha-2.0.dist-info/METADATA,,\n")
    script = project({"main.py": "import alpha, unowned"})
    assert [item.version for item in analyze(script, python=environment.python).distributions] == ["1.0"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    found = analyze(script, python=environment.python)
    assert [item.version for item in found.distributions] == ["2.0"]
    assert relative(found.local_files, tmp_path) == ["first/unowned.py"]


def test_user_site_is_searched_where_the_interpreter_does(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(Path(sys.base_prefix) / "bin" / "python3")
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "user"))
    script = project({"main.py": "import at_home"})
    assert roles(analyze(script, python=base)) == {}
    site = tmp_path / "user" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "at_home-1.0.dist-info").mkdir(parents=True)
    (site / "at_home.py").touch()
    (site / "at_home-1.0.dist-info" / "METADATA").write_text("Name: at-home\nVersion: 1.0\n")
    (site / "at_home-1.0.dist-info" / "RECORD").write_text("at_home.py,,\n")
    assert roles(analyze(script, python=base)) == {"at-home": "direct"}
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    assert roles(analyze(script, python=base)) == {}


def test_environment_shadows_the_one_below_it(environment: Environment, project: Project, tmp_path: Path) -> None:
    root = Path(environment.python).parent.parent
    config = root / "pyvenv.cfg"
    script = project({"main.py": "import pip"})
    assert roles(analyze(script, python=environment.python)) == {}
    config.write_text(
        config.read_text().replace("include-system-site-packages = false", "include-system-site-packages = true")
    )
    below = analyze(script, python=environment.python).distributions
    assert [item.name for item in below] == ["pip"]
    environment.install("pip", "999.0", files=("pip/__init__.py",))
    assert [item.version for item in analyze(script, python=environment.python).distributions] == ["999.0"]


REQUIREMENTS = {
    "extras that are asked for": (("middle[fast]",), {"middle", "speed"}),
    "extras of extras": (("middle[all]",), {"middle", "speed", "draw"}),
    "extras in another spelling": (("middle[Fast_ER]",), {"middle", "faster"}),
    "no extras": (("middle",), {"middle"}),
    "a marker with extra in or": (("either",), {"either", "always"}),
    "an extra in or": (("either[a]",), {"either", "always", "one"}),
    "a cycle with extras": (("ring[x]",), {"ring", "back"}),
    "an extra of a marker that does not hold": (('middle[fast]; python_version < "3"',), set()),
    "an extra that is not there": (("middle[nothing]",), {"middle"}),
    "a line that is no requirement": (("middle >== 3", "always"), {"always"}),
}


@pytest.mark.parametrize("case", REQUIREMENTS)
def test_closure_follows_the_extras_that_are_asked_for(case: str, environment: Environment, project: Project) -> None:
    lines, expected = REQUIREMENTS[case]
    environment.install("top", files=("top.py",), requires=lines)
    environment.install(
        "middle",
        requires=(
            'speed; extra == "fast"',
            'draw; extra == "plot"',
            'faster; extra == "fast-er"',
            'middle[fast,plot]; extra == "all"',
        ),
    )
    environment.install(
        "either",
        requires=(
            'one; extra == "a" or extra == "b"',
            'always; python_version > "3" or extra == "a"',
            'never; python_version < "3" and extra == "a"',
        ),
    )
    environment.install("ring", requires=('back[y]; extra == "x"',))
    environment.install("back", requires=('ring[x]; extra == "y"', "top"))
    for name in ("speed", "draw", "faster", "one", "always", "never"):
        environment.install(name)
    found = analyze(project({"main.py": "import top"}), python=environment.python)
    assert {item.name for item in found.distributions} == {"top", *expected}
    assert found.unresolved == ()
