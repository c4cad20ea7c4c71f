"""Packs for another version or platform: wheels of that machine in the client's versions, or a refusal with reasons."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envpack import Dependencies, pack
from envpack.errors import IncompatiblePackError, RegistryError, TargetDistributionError, UsageError
from envpack.pack import Store
from envpack.pack.sources.registry import pip_settings, uv_environ
from envpack.pack.sources.targets import is_version, pack_target
from envpack.pack.store.environment import fits_platform
from tests.pack.wheels import AARCH64, X86_64, machine_code, make_wheel, members

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
TAG = f"cp{HERE.replace('.', '')}"
OTHER = "3.12" if HERE != "3.12" else "3.13"
OTHER_TAG = f"cp{OTHER.replace('.', '')}"
ARM = "manylinux_2_28_aarch64"
Needs = Callable[..., Dependencies]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only index that uv has: `fast` for two machines, with a helper for one of them."""
    folder = tmp_path / "index"
    for tag, machine in ((f"{TAG}-{TAG}-{ARM}", AARCH64), (f"{OTHER_TAG}-{OTHER_TAG}-manylinux2014_x86_64", X86_64)):
        files = {"fast/__init__.py": "import fast_helper\nname = 'fast'\n", "fast/_core.so": machine_code(machine)}
        requires = ("fast-helper", 'never-there ; sys_platform == "win32"')
        make_wheel(folder, "fast", "1.0", tag, files, requires)
    make_wheel(folder, "fast_helper", "1.0", "py3-none-any", {"fast_helper.py": "value = 1\n"})
    make_wheel(folder, "fast_helper", "2.0", "py3-none-any", {"fast_helper.py": "value = 2\n"})
    for name in ("UV_NO_INDEX", "UV_NO_CACHE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def client(prefix):
    """What the client has installed, of another build than the target's."""
    prefix.install("fast", "1.0+mine", {"fast/__init__.py": "", "fast/_core.so": machine_code(X86_64)})
    prefix.install("fast_helper", "1.0", {"fast_helper.py": ""})
    return prefix


def test_layers_of_another_platform_are_its_wheels_in_the_client_s_versions(
    client, index: Path, store: Store, needs: Needs, tmp_path: Path
) -> None:
    local = tmp_path / "code" / "mine.py"
    local.parent.mkdir()
    local.write_text("value = 3\n")
    asked = needs(("fast", "1.0+mine"), files=[local], root=local.parent)
    manifest = pack(asked, python=client.python, platform=ARM, store=store, output=tmp_path / "arm.tar.zst")
    assert (manifest.python, manifest.abi, manifest.platform) == (HERE, TAG, "linux-aarch64")
    assert [(ref.kind, str(ref)) for ref in manifest.layers] == [
        ("wheel", "fast 1.0"), ("wheel", "fast-helper 2.0"), ("local", "local")
    ]  # fmt: skip
    files = members(tmp_path / "arm.tar.zst")
    site = f"lib/python{HERE}/site-packages"
    assert struct.unpack_from("<H", files[f"{site}/fast/_core.so"], 18) == (AARCH64,)
    assert files[f"{site}/mine.py"] == b"value = 3\n"
    # The running interpreter has compiled for the other machine: bytecode depends on the version alone.
    assert f"{site}/fast/__pycache__/__init__.cpython-{TAG[2:]}.pyc" in files
    with pytest.raises(IncompatiblePackError, match="linux-aarch64"):
        store.materialise(manifest)


def test_a_transitive_distribution_keeps_the_version_that_is_installed(
    client, index: Path, store: Store, needs: Needs
) -> None:
    asked = needs(("fast", "1.0+mine"), ("fast-helper", "1.0"))
    fast, helper = asked.distributions
    asked = replace(asked, distributions=(fast, replace(helper, role="transitive", required_by=("fast",))))
    manifest = pack(asked, python=client.python, platform=ARM, store=store)
    assert [str(ref) for ref in manifest.layers] == ["fast 1.0", "fast-helper 1.0"]


def test_what_was_fetched_before_is_not_built_again(client, index: Path, store: Store, needs: Needs) -> None:
    built: list[bool] = []
    manifests = [
        pack(
            needs(("fast", "1.0+mine")),
            python=client.python,
            platform=ARM,
            store=store,
            progress=lambda event: built.append(event.built),
        )
        for _ in range(2)
    ]
    assert manifests[0] == manifests[1]
    assert built == [True, True, False, False]


def test_another_version_is_packed_from_the_environment_that_runs(client, index: Path, tmp_path: Path) -> None:
    """As a user types it: a script, and the version of a Python that need not be here."""
    (tmp_path / "script.py").write_text("import fast\n")
    command = ["pack", "script.py", "--python", OTHER, "--platform", "manylinux2014_x86_64", "-o", "other.tar.zst"]
    done = _envpack(client.python, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert f"Python {OTHER}, {OTHER_TAG}, linux-x86_64" in done.stdout
    assert f"lib/python{OTHER}/site-packages/fast/_core.so" in members(tmp_path / "other.tar.zst")


def test_the_version_that_runs_is_no_other_target(client, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import fast_helper\n")
    done = _envpack(client.python, tmp_path, "pack", "script.py", "--python", HERE)
    assert done.returncode == 0, done.stderr
    assert "fast-helper  1.0" in done.stdout


def _envpack(python: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ENVPACK_STORE": f"{folder}/store"}
    # Its own interpreter runs envpack, whose modules are on the search path only.
    command = [python, "-m", "envpack", *words]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100)


def test_a_distribution_without_a_wheel_is_named(client, index: Path, store: Store, needs: Needs) -> None:
    with pytest.raises(
        TargetDistributionError,
        match=r"^no wheel of fast==1\.0 for Python .* on macosx-14\.0-arm64 \(aarch64-apple-darwin\): Because fast",
    ):
        pack(needs(("fast", "1.0+mine")), python=client.python, platform="macosx_14_0_arm64", store=store)


def test_a_distribution_that_the_index_does_not_have_is_named(client, index: Path, store: Store, needs: Needs) -> None:
    client.install("unknown", "1.0", {"unknown.py": ""})
    with pytest.raises(TargetDistributionError, match="unknown"):
        pack(needs(("unknown", "1.0")), python=client.python, platform=ARM, store=store)


def test_an_index_that_is_not_reached_is_no_missing_wheel(
    client, store: Store, needs: Needs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"DEFAULT_INDEX": "http://127.0.0.1:9/simple", "NO_CACHE": "1", "HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(f"UV_{name}", value)
    with pytest.raises(RegistryError, match="cannot be fetched"):
        pack(needs(("fast-helper", "1.0")), python=client.python, platform=ARM, store=store)


def _develop(prefix, folder: Path, name: str, files: dict[str, bytes], requires: str = "") -> None:
    """Install a project as an editable one: a pointer, and metadata that says so."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    prefix.install(name, "1.0", {f"{name}.pth": f"{folder}\n"})
    info = prefix.site / f"{name}-1.0.dist-info"
    (info / "direct_url.json").write_text(f'{{"url": "file://{folder}", "dir_info": {{"editable": true}}}}')
    with (info / "METADATA").open("a") as file:
        file.write(requires)


def test_a_development_install_travels_as_it_is_and_what_it_requires_is_fetched(
    client, index: Path, store: Store, needs: Needs, tmp_path: Path
) -> None:
    _develop(client, tmp_path / "work", "mine", {"mine/__init__.py": b""}, "Requires-Dist: fast\n")
    manifest = pack(needs(("mine", "1.0")), python=client.python, platform=ARM, store=store)
    assert [(ref.kind, ref.name) for ref in manifest.layers] == [
        ("wheel", "fast"), ("wheel", "fast-helper"), ("editable", "mine")
    ]  # fmt: skip


def test_everything_that_cannot_travel_is_told_at_once(client, store: Store, needs: Needs, tmp_path: Path) -> None:
    _develop(client, tmp_path / "work", "mine", {"mine/__init__.py": b"", "mine/_core.so": machine_code(X86_64)})
    extension = tmp_path / "code" / "own.so"
    extension.parent.mkdir()
    extension.write_bytes(machine_code(X86_64))
    asked = needs(("mine", "1.0"), files=[extension], root=extension.parent)
    with pytest.raises(TargetDistributionError) as met:
        pack(asked, python=client.python, platform=ARM, store=store)
    assert "mine 1.0 is a development install and has machine code" in str(met.value)
    assert "the user's own code" in str(met.value)


def test_what_conda_has_installed_is_not_looked_for_elsewhere(client, store: Store, needs: Needs) -> None:
    client.install("lib", "1.0", {"lib.py": ""})
    (client.site / "lib-1.0.dist-info" / "INSTALLER").write_text("conda\n")
    with pytest.raises(TargetDistributionError, match=r"lib 1\.0 was installed by conda"):
        pack(needs(("lib", "1.0")), python=client.python, platform=ARM, store=store)


def test_excluded_distributions_are_not_fetched_for_others(client, index: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import fast\n")
    options = ["--platform", ARM, "--exclude", "fast-helper", "--json"]
    done = _envpack(client.python, tmp_path, "pack", "script.py", *options)
    assert done.returncode == 0, done.stderr
    assert '"fast-helper"' not in done.stdout


def test_without_uv_the_extra_is_named(client, store: Store, needs: Needs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"envpack-hpc\[target\]"):
        pack(needs(("fast", "1.0+mine")), python=client.python, platform=ARM, store=store)


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("manylinux_2_28_aarch64", ("linux-aarch64", "aarch64-manylinux_2_28", "")),
        ("manylinux2014_x86_64", ("linux-x86_64", "x86_64-manylinux_2_17", "")),
        ("manylinux_2_30_x86_64", ("linux-x86_64", "x86_64-manylinux_2_28", "")),
        ("linux-x86_64", ("linux-x86_64", "x86_64-manylinux_2_28", "")),
        ("macosx_11_0_arm64", ("macosx-11.0-arm64", "aarch64-apple-darwin", "11.0")),
        ("macosx-14.0-x86_64", ("macosx-14.0-x86_64", "x86_64-apple-darwin", "14.0")),
    ],
)
def test_a_platform_says_what_python_and_uv_call_it(platform: str, expected: tuple[str, str, str]) -> None:
    target = pack_target("3.12.4", platform)
    assert (target.platform, target.wheels, target.macos) == expected
    assert (target.python, target.abi, target.version) == ("3.12", "cp312", "3.12.4")


@pytest.mark.parametrize("platform", ["win_amd64", "musllinux_1_2_x86_64", "manylinux_2_12_x86_64", "linux-mips", ""])
def test_a_platform_without_wheels_that_we_know_is_refused(platform: str) -> None:
    with pytest.raises(UsageError, match=rf"platform '{platform}' met"):
        pack_target("3.12", platform)


def test_a_version_is_told_from_an_interpreter_by_its_form_alone() -> None:
    assert [text for text in ("3.12", "3.9.1", "python3.12", "./3.12", "3", "3.12t", "") if is_version(text)] == [
        "3.12",
        "3.9.1",
    ]


def test_uv_gets_the_index_of_pip_only_where_it_has_none(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://index.example/simple\nfind_links = /wheels\n    /more\n"
        "[install]\nextra-index-url = https://one.example https://two.example\ncert = /certificates\n"
    )
    environ = {"PIP_CONFIG_FILE": str(config), "HOME": str(tmp_path), "PIP_INDEX_URL": "https://other.example/simple"}
    assert pip_settings(environ)["index-url"] == "https://other.example/simple"
    given = uv_environ(environ)
    assert given["UV_DEFAULT_INDEX"] == "https://other.example/simple"
    assert given["UV_INDEX"].split()[-2:] == ["https://one.example", "https://two.example"]
    assert given["UV_FIND_LINKS"].endswith("/wheels,/more")
    assert given["SSL_CERT_FILE"] == "/certificates"
    own = uv_environ({**environ, "UV_DEFAULT_INDEX": "https://mine.example"})
    assert (own["UV_DEFAULT_INDEX"], "UV_INDEX" in own) == ("https://mine.example", False)


def test_pip_without_files_is_asked_by_its_variables_alone(tmp_path: Path) -> None:
    environ = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "true", "HOME": str(tmp_path)}
    assert pip_settings(environ) == {"no-index": "true"}
    assert uv_environ(environ)["UV_NO_INDEX"] == "1"


@pytest.mark.parametrize(
    ("needed", "met", "fits"),
    [
        ("macosx-11.0-arm64", "macosx-14.2-arm64", True),
        ("macosx-11.0-arm64", "macosx-10.9-universal2", True),
        ("macosx-11.0-arm64", "macosx-11.0-x86_64", False),
        ("macosx-11.0-arm64", "linux-aarch64", False),
        ("linux-x86_64", "linux-x86_64", True),
        ("linux-x86_64", "linux-aarch64", False),
    ],
)
def test_the_release_of_macos_is_that_of_the_interpreter_s_making_and_does_not_count(
    needed: str, met: str, fits: bool
) -> None:
    assert fits_platform(needed, met) == fits
