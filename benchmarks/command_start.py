"""Claim: `envpack --help`, with every subcommand listed, costs less than 100 ms of CPU beyond the bare interpreter.

Prints the CPU time of fresh processes, user and system, beyond that of `python -c pass`: of `--help`, of `import click`
(what it stands on) and `pip --help` (a command with as many subcommands). They take turns; the 10th and 90th percentile
of the rounds stand beside the median.

    python benchmarks/command_start.py [--rounds 30] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "envpack --help": ["-m", "envpack", "--help"],
    "pip --help": ["-m", "pip", "--help"],
}


def cpu_ms(words: list[str]) -> float:
    # Without bytecode every run would compile the modules of an editable install again; an installed wheel has it.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, env=environ)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="5 rounds")
    options = parser.parse_args()
    rounds = 5 if options.quick else options.rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, words in COMMANDS.items():
            taken = cpu_ms(words)
            if turn:  # the first may compile
                times[name].append(taken)
    bare, *others = times
    base = statistics.median(times[bare])
    print(f"{bare}: {base:.1f} ms of CPU, {rounds} rounds")
    for name in others:
        beyond = sorted(value - base for value in times[name])
        low, high = beyond[len(beyond) // 10], beyond[len(beyond) * 9 // 10]
        print(f"  {name:<16} {statistics.median(beyond):7.1f} ms more ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
