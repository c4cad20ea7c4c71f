"""Claim: asking what a script needs costs little: CPU time with and without a known environment, a folder, memory.

Makes an environment of 200 distributions and asks about one script in it, and about a folder of 1,000 files. The
distributions are made up, with lists of files and metadata as large as those of 20 real ones from small to large; 60 of
them are real, from PyPI, unless `--quick`. CPU time is that of the process and its children (an asked interpreter is
one) beyond that of `python -c pass`, which takes its turn in each round. `cold`: nothing is known of the environment;
`warm`: it was asked about before. deptry and FawltyDeps take part unless `--quick`: they say which distributions the
same script or folder imports, from their own environment, and keep nothing from one process to the next.

    python benchmarks/discovery_cost.py [--rounds 9] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DISTRIBUTIONS = 200
FILES = 1_000
PEERS = Path(__file__).parent / "discovery" / "peers.txt"

# Files, bytes of metadata and requirements of every sixth of 120 real distributions, by size.
SIZES = [
    *((6, 4177, 1), (9, 3779, 7), (11, 40783, 1), (13, 2554, 1), (15, 3177, 0), (18, 2526, 0), (22, 4117, 0)),
    *((28, 22187, 38), (38, 3812, 7), (45, 8989, 1), (58, 2871, 2), (74, 16076, 8), (84, 5055, 0), (121, 10609, 103)),
    *((180, 8630, 8), (238, 9118, 26), (419, 12732, 45), (694, 2527, 1), (1003, 4239, 0), (2400, 62142, 38)),
]

REAL = """
aiofiles alabaster annotated-types appdirs argcomplete asgiref asttokens attrs babel backoff beautifulsoup4 bleach
blinker boltons cachetools certifi charset-normalizer click cloudpickle colorama colorlog decorator defusedxml
deprecation dill distlib docstring-parser docutils email-validator executing filelock fsspec future humanize idna
iniconfig isodate itsdangerous jinja2 jmespath joblib jsonschema lark markdown mdurl more-itertools mpmath natsort
networkx packaging pathspec platformdirs pluggy ply pygments pyparsing python-dateutil pytz requests rich
"""

SCRIPT = """
import made_010
import made_020.part
from made_030 import thing
from made_110 import other as another
import json, os

try:
    import made_040
except ImportError:
    made_040 = None


def compute(values):
    import made_050

    return [made_010.run(value) for value in values if made_050.is_good(value)]


def save(path, values):
    with open(os.path.join(path, "result.json"), "w") as file:
        json.dump(thing(values), file)
"""


@dataclass
class Subject:
    """One thing that is measured.

    Attributes:
        name: what is printed.
        command: the words of the process.
        before: is called before each of its runs.
        bar_s: what it may cost, in CPU seconds beyond bare start.
        cpu_s: what it did cost.
        peak_bytes: the largest resident set of its processes.
    """

    name: str
    command: list[str]
    before: Callable[[], None] = lambda: None
    bar_s: float | None = None
    cpu_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0


def make_distribution(site: Path, number: int) -> None:
    files, size, requirements = SIZES[number % len(SIZES)]
    name = f"made_{number:03}"
    (site / name).mkdir()
    for module in ("__init__", "part"):
        (site / name / f"{module}.py").touch()
    metadata = site / f"{name}-1.{number}.dist-info"
    metadata.mkdir()
    # Of each ten some require the next ones: from one distribution follow a few others, as in real life.
    needed = [f"made_{number + step + 1:03}>=1.0" for step in range(min(requirements, 3)) if number % 10 < 7]
    needed += [f'made_{step:03}; extra == "more"' for step in range(requirements - 3)]
    head = [f"Name: {name}", f"Version: 1.{number}", *(f"Requires-Dist: {line}" for line in needed)]
    (metadata / "METADATA").write_text("\n".join(head) + "\n\n" + "A line of the description.\n" * (size // 27))
    rows = [f"{name}/{module}.py,sha256={'0' * 43},0" for module in ("__init__", "part")]
    rows += [f"{name}/inner/module_{row:04}.py,sha256={'0' * 43},{row}" for row in range(files)]
    (metadata / "RECORD").write_text("\n".join(rows) + "\n")
    (metadata / "INSTALLER").write_text("pip\n")


def make_environment(folder: Path, real: bool) -> tuple[str, int]:
    """Return the interpreter of a new environment, and how many of its distributions are real."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    site = next((folder / "lib").glob("python3*/site-packages"))
    if real:
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-compile"]
        subprocess.run([*pip, *REAL.split()], check=True, stdout=sys.stderr)
    installed = len(list(site.glob("*.dist-info")))
    for number in range(DISTRIBUTIONS - installed):
        make_distribution(site, number)
    return python, installed


def make_folder(folder: Path) -> None:
    folder.mkdir()
    for number in range(FILES):
        imports = "".join(f"import made_{(number * step) % 130:03}\n" for step in (1, 3, 7))
        near = f"from file_{(number + 1) % FILES:04} import total_0 as near\n" if number % 10 == 0 else ""
        functions = "".join(
            f"def total_{one}(values, start={one}):\n"
            "    found = []\n"
            "    for value in values:\n"
            f"        if value > start and made_{number % 130:03}.is_good(value):\n"
            "            found.append({'value': value, 'next': [value + step for step in range(start)]})\n"
            "    return found\n\n"
            for one in range(8)
        )
        (folder / f"file_{number:04}.py").write_text(f"{imports}{near}\n\n{functions}")


def run(command: list[str], environ: dict[str, str]) -> tuple[float, int]:
    """Run a process to its end; return the CPU seconds of it and its children, and its largest resident set."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # peers say with 1 that they have something to say
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}")
    # Linux counts kilobytes, and starts from the few megabytes of this process.
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def subjects(work: Path, python: str, cache: Path) -> list[Subject]:
    script, folder = str(work / "script.py"), str(work / "folder")
    command = [str(Path(sys.executable).with_name("envpack")), "analyze", script, "--python", python]

    def ask(target: str) -> list[str]:
        return [sys.executable, "-c", f"from envpack import analyze; analyze({target!r}, python={python!r})"]

    def forget() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    return [
        Subject("analyze(script), cold", ask(script), forget, 0.3),
        Subject("analyze(script), warm", ask(script), bar_s=0.05),
        Subject("envpack analyze script, cold", command, forget),
        Subject("envpack analyze script, warm", command),
        Subject(f"analyze(folder of {FILES:,})", ask(folder), bar_s=5.0),
    ]


def peers(work: Path) -> list[Subject]:
    """Install the peers into an environment of their own; none if that cannot be done."""
    folder = work / "peers"
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "-r", str(PEERS)]
    if subprocess.run(pip, stdout=sys.stderr).returncode:
        print("peers cannot be installed: they take no part", file=sys.stderr)
        return []
    alone = work / "alone"
    alone.mkdir()
    shutil.copy(work / "script.py", alone)
    (work / "requirements.txt").write_text("made_010\n")
    declared = str(work / "requirements.txt")
    found = []
    for name, target in (("script", alone), (f"folder of {FILES:,}", work / "folder")):
        deptry = [str(folder / "bin" / "deptry"), str(target), "--requirements-files", declared, "-e", "-"]
        fawlty = [str(folder / "bin" / "fawltydeps"), "--code", str(target), "--deps", declared, "--list-imports"]
        found += [Subject(f"deptry, {name}", deptry), Subject(f"FawltyDeps, {name}", fawlty)]
    return found


def measure(found: list[Subject], environ: dict[str, str], rounds: int) -> list[float]:
    """Run all subjects in turn; return what the bare starts between them cost, in CPU seconds."""
    bare = [sys.executable, "-c", "pass"]
    starts = []
    for subject in found:
        subject.before()
        run(subject.command, environ)  # bytecode is compiled now, as installers do
    for number in range(rounds):
        for subject in found:
            if "folder" in subject.name and number >= max(1, rounds // 4):
                continue
            subject.before()
            cpu_s, peak_bytes = run(subject.command, environ)
            starts.append(run(bare, environ)[0])
            subject.cpu_s.append(cpu_s - starts[-1])
            subject.peak_bytes = max(subject.peak_bytes, peak_bytes)
    return starts


def show(found: list[Subject], starts: list[float], real: int, rounds: int) -> None:
    made = DISTRIBUTIONS - real
    print(
        f"{DISTRIBUTIONS} distributions: {real} real, {made} made up; {rounds} rounds in turn, folders a quarter of it"
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; CPU seconds beyond `python -c pass`, which took")
    print(f"{statistics.median(starts):.3f} s: busy cores slow all alike\n")
    for subject in found:
        middle = statistics.median(subject.cpu_s)
        spread = f"({min(subject.cpu_s):.3f} to {max(subject.cpu_s):.3f})"
        bar = f"   bar {subject.bar_s:.2f} s" if subject.bar_s is not None else ""
        print(f"  {subject.name:<32} {middle:>8.3f} s   {spread:<20} {subject.peak_bytes / 1e6:>5.0f} MB{bar}")
    print("\nbar of memory: 200 MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="three rounds, no real distributions, no peers")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "script.py").write_text(SCRIPT)
        make_folder(work / "folder")
        python, real = make_environment(work / "environment", real=not options.quick)
        environ = {
            **os.environ,
            "ENVPACK_INDEX_CACHE": str(work / "cache"),
            "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        found = subjects(work, python, work / "cache") + ([] if options.quick else peers(work))
        starts = measure(found, environ, rounds)
    if options.json:
        figures = {subject.name: {"cpu_s": subject.cpu_s, "peak_bytes": subject.peak_bytes} for subject in found}
        print(json.dumps({"load": os.getloadavg()[0], "real": real, "bare_s": starts, "figures": figures}))
        return
    show(found, starts, real, rounds)


if __name__ == "__main__":
    main()
