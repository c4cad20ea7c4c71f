"""What has to be known about a Python interpreter to ask what its environment holds.

Another interpreter is asked by running it once with a short program that needs nothing but its standard library;
envpack need not be installed there. The running interpreter is asked in the process, because its `sys.path` may have
been changed by the program that runs.

The answer is kept with the stamps of everything that it follows from: the interpreter's file, `pyvenv.cfg`, the start
files of its site folders, `sitecustomize`. What is no program of its own (a script that picks an interpreter) is asked
each time.
"""

from __future__ import annotations

import os
import sys

from envpack.discover.environment.cache import Looks, are_same, load, save
from envpack.errors import InterpreterError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TIMEOUT_S = 30.0

# Runs in the asked interpreter, so it keeps to what Python 3.8 understands. The marker variables are those of PEP 508.
_PROBE = """
import os, platform, sys, sysconfig
if {foreign} and sys.path[:1] == [""]:
    sys.path.pop(0)
info = sys.implementation.version
full = "%d.%d.%d" % info[:3] + ("" if info[3] == "final" else info[3][0] + str(info[4]))
facts = dict(
    executable=sys.executable,
    version="%d.%d.%d" % sys.version_info[:3],
    implementation=sys.implementation.name,
    soabi=sysconfig.get_config_var("SOABI") or "",
    platform=sysconfig.get_platform(),
    prefix=sys.prefix,
    base_prefix=sys.base_prefix,
    base_executable=getattr(sys, "_base_executable", sys.executable) or sys.executable,
    purelib=sysconfig.get_path("purelib"),
    platlib=sysconfig.get_path("platlib"),
    stdlib=sysconfig.get_path("stdlib"),
    scripts=sysconfig.get_path("scripts"),
    user_site=getattr(sys.modules.get("site"), "USER_SITE", None) or "",
    startup=[getattr(sys.modules.get(name), "__file__", None) or "" for name in ("sitecustomize", "usercustomize")],
    sys_path=[os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)],
    stdlib_modules=sorted(getattr(sys, "stdlib_module_names", ())),
    builtin_modules=sorted(sys.builtin_module_names),
    markers=dict(
        implementation_name=sys.implementation.name,
        implementation_version=full,
        os_name=os.name,
        platform_machine=platform.machine(),
        platform_release=platform.release(),
        platform_system=platform.system(),
        platform_version=platform.version(),
        python_full_version=platform.python_version(),
        platform_python_implementation=platform.python_implementation(),
        python_version=".".join(platform.python_version_tuple()[:2]),
        sys_platform=sys.platform,
    ),
)
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter and the folders of its environment.

    Attributes:
        executable: absolute path of the interpreter.
        version: such as `3.11.7`.
        implementation: such as `cpython`.
        abi: the tag of its extension modules, such as `cp311`.
        platform: such as `linux-x86_64`.
        prefix: folder of the (virtual) environment.
        base_prefix: folder of the installation that it was made from.
        base_executable: interpreter of that installation.
        purelib: folder of pure distributions.
        platlib: folder of distributions with extension modules.
        stdlib: folder of the standard library.
        sys_path: the folders that it searches for modules, in order.
        stdlib_modules: top-level names of its standard library.
        builtin_modules: names of the modules compiled into it, which no file can shadow.
        soabi: the full tag in file names of extension modules, such as `cpython-311-x86_64-linux-gnu`.
        markers: the environment in which requirement markers are evaluated, as pairs.
    """

    executable: str
    version: str
    implementation: str
    abi: str
    platform: str
    prefix: str
    base_prefix: str
    base_executable: str
    purelib: str
    platlib: str
    stdlib: str
    sys_path: tuple[str, ...]
    stdlib_modules: frozenset[str] = frozenset()
    builtin_modules: frozenset[str] = frozenset()
    soabi: str = ""
    markers: tuple[tuple[str, str], ...] = ()

    @property
    def version_info(self) -> tuple[int, int, int]:
        """The version as three numbers."""
        major, minor, micro = (int(part) for part in self.version.split("."))
        return major, minor, micro


def inspect_interpreter(python: str | os.PathLike[str] | None = None) -> Interpreter:
    """Ask an interpreter where its modules live.

    Args:
        python: path or name of an interpreter; the running one by default.

    Returns:
        What is known about it.

    Raises:
        InterpreterError: there is no such file, it cannot be run, or it is no Python interpreter.
    """
    if python is None:
        return _inspect_running()
    executable = _locate(os.fspath(python))
    key = repr((executable, _surroundings()))
    known = _known(key)
    if known is None:
        looks = Looks()
        looks.at(executable)
        known = _ask(executable)
        if _is_program(executable, known):
            _look_at(known, looks)
            if looks.is_settled:
                save("interpreter", key, (tuple(looks.stamps.items()), known))
    return _from_facts(known)


def _inspect_running() -> Interpreter:
    # Everything but the search path is as it was when the process started.
    key = repr(("running", sys.executable, sys.version, sys.prefix, sys.base_prefix, _surroundings()))
    known = _known(key)
    if known is None:
        looks = Looks()
        looks.at(sys.executable or "")  # empty where Python is embedded
        names: dict[str, Any] = {}
        exec(_PROBE.format(foreign=False), names)
        known = names["facts"]
        if looks.is_settled:
            save("interpreter", key, (tuple(looks.stamps.items()), known))
    # A console script puts its own folder first; nobody imports from there.
    paths = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]
    return _from_facts({**known, "sys_path": [path for path in paths if path != known["scripts"]]})


def _known(key: str) -> dict[str, Any] | None:
    stamps, facts = load("interpreter", key) or ((), None)
    return facts if facts is not None and are_same(stamps) else None


def _surroundings() -> tuple[object, ...]:
    """Return what outside of files decides what an interpreter says about itself."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    others = [os.environ.get(name, "") for name in ("HOME", "LD_LIBRARY_PATH", "__PYVENV_LAUNCHER__")]
    paths = [os.path.abspath(path) for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    return sorted(variables.items()), others, paths, os.getuid(), tuple(os.uname())


def _is_program(executable: str, facts: dict[str, Any]) -> bool:
    """Whether the file itself is the interpreter, and no script that picks one by other circumstances."""
    try:
        with open(executable, "rb") as file:
            is_script = file.read(2) == b"#!"
    except OSError:
        return False  # may be run, but not be read
    return not is_script and os.path.realpath(executable) == os.path.realpath(facts["executable"])


def _look_at(facts: dict[str, Any], looks: Looks) -> None:
    """Look at every file that decides how an interpreter starts."""
    for folder in (os.path.dirname(facts["executable"]), facts["prefix"]):
        looks.at(os.path.join(folder, "pyvenv.cfg"))
    for startup in filter(None, facts["startup"]):
        looks.at(startup)
    sites = {facts["purelib"], facts["platlib"], facts["user_site"]}
    for folder in {*facts["sys_path"], *filter(None, sites)}:
        if folder in sites or os.path.basename(folder) in ("site-packages", "dist-packages"):
            looks.at(folder)
            _look_at_start_files(folder, looks)
        else:
            for name in ("sitecustomize", "usercustomize"):
                looks.at(os.path.join(folder, f"{name}.py"))
                looks.at(os.path.join(folder, name))


def _look_at_start_files(site: str, looks: Looks) -> None:
    """Look at the `.pth` files of a folder, the folders that they add, and the modules that they import."""
    for name in os.listdir(site) if os.path.isdir(site) else ():
        if not name.endswith(".pth"):
            continue
        starter = os.path.join(site, name)
        looks.at(starter)
        with open(starter, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("import ", "import\t")):
                    module = line[7:].partition(";")[0].strip().replace(".", os.sep)
                    looks.at(os.path.join(site, f"{module}.py"))
                elif line.strip() and not line.startswith("#"):
                    # A folder is added if it is there; one that has gone since does no harm on a search path.
                    added = os.path.join(site, line.strip())
                    if not os.path.exists(added):
                        looks.at(added)


def _ask(executable: str) -> dict[str, Any]:
    import json
    import subprocess

    program = _PROBE.format(foreign=True) + "import json; print(json.dumps(facts))"
    try:
        answer = subprocess.run(
            [executable, "-c", program], capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterError(
            f"cannot run interpreter {executable!r}: {error}", "name a Python interpreter"
        ) from error
    try:
        facts = json.loads(answer.stdout.strip().splitlines()[-1])
        _from_facts(facts)
    except (ValueError, LookupError, TypeError) as error:
        said = (answer.stderr.strip() or answer.stdout.strip() or "nothing").splitlines()[-1]
        raise InterpreterError(
            f"not a Python interpreter: {executable!r} ended with exit code {answer.returncode}, saying {said[:200]!r}",
            "name a Python interpreter of version 3.8 or later",
        ) from error
    return facts  # type: ignore[no-any-return]


def _locate(python: str) -> str:
    if os.sep not in python:
        from shutil import which

        found = which(python)
        if found is None:
            raise InterpreterError(f"no interpreter {python!r} on PATH", "give its path")
        return os.path.abspath(found)
    # Not resolved: a virtual environment is recognised by the folder that its link lies in.
    executable = os.path.abspath(os.path.expanduser(python))
    if os.path.isdir(executable):
        inside = os.path.join(executable, "bin", "python")
        if os.path.exists(inside):
            return inside
        raise InterpreterError(f"interpreter is a folder: {executable!r}", "give the path of its bin/python")
    if not os.path.exists(executable):
        raise InterpreterError(f"no such interpreter: {executable!r}", "give the path of a Python interpreter")
    return executable


def _from_facts(facts: dict[str, Any]) -> Interpreter:
    stdlib_modules = facts["stdlib_modules"] or sorted(sys.stdlib_module_names)
    return Interpreter(
        executable=facts["executable"],
        version=facts["version"],
        implementation=facts["implementation"],
        abi=_abi_tag(facts["implementation"], facts["soabi"], facts["version"]),
        platform=facts["platform"],
        prefix=facts["prefix"],
        base_prefix=facts["base_prefix"],
        base_executable=facts["base_executable"],
        purelib=facts["purelib"],
        platlib=facts["platlib"],
        stdlib=facts["stdlib"],
        sys_path=tuple(dict.fromkeys(facts["sys_path"])),
        stdlib_modules=frozenset(stdlib_modules),
        builtin_modules=frozenset(facts["builtin_modules"]),
        soabi=facts["soabi"],
        markers=tuple(sorted(facts["markers"].items())),
    )


def _abi_tag(implementation: str, soabi: str, version: str) -> str:
    """Return the tag of PEP 425 (`cp311`, `cp313t`) for the tag in file names (`cpython-313t-x86_64-linux-gnu`)."""
    if implementation == "cpython":
        flavour = soabi.split("-")[1] if soabi.startswith("cpython-") else "".join(version.split(".")[:2])
        return f"cp{flavour}"
    return soabi.replace(".", "_").replace("-", "_")
