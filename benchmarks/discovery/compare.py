"""Claim: of the tools that say what a program needs, envpack is right most often, for scripts and for functions.

    make bench-discovery                 # all cases; makes the two environments first
    make bench-discovery ARGS=--quick    # every fifth case

For each tool, over the distributions of all cases that it was asked about:

- precision: how many of the names it gives are needed; recall: how many of the needed it gives; F1: both. What is
  optional in a case counts neither way;
- exact: the share of cases with no name too many or missing;
- runs: the share of cases in which the closure of its answer holds all that the program uses;
- MB/true: the bytes of the closures of its answers, in relation to those of the truths;
- CPU s: CPU seconds a case, of the tool's processes from their start.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from case import Case, Truth, read_cases, read_truth
from environment import Environment
from tools import ONLY_FUNCTIONS, TOOLS, Bench, ToolFailed, versions

QUICK = 5
LEFT_OUT = {"envpack, run"}  # runs programs: only when asked for
MARKS = ("<!-- figures: begin -->", "<!-- figures: end -->")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool said about a case, next to the truth."""

    tool: str
    case: str
    kind: str
    category: str
    right: tuple[str, ...]
    extra: tuple[str, ...]
    missing: tuple[str, ...]
    runs: bool
    size_bytes: int
    true_bytes: int
    cpu_s: float
    failure: str


@dataclass(frozen=True, slots=True)
class Score:
    """Figures over several answers."""

    cases: int
    precision: float
    recall: float
    f1: float
    exact: float
    runs: float
    mb_per_true: float
    cpu_s: float
    failed: int


def ask(tool: str, case: Case, truth: Truth, bench: Bench) -> Answer:
    """Ask a tool about a case and judge its answer."""
    before, failure = bench.spent.cpu_s, ""
    try:
        named = TOOLS[tool](bench, case)
    except ToolFailed as error:
        named, failure = set(), str(error) or "no answer"
    environment = bench.environment
    closure = environment.closure(named)
    return Answer(
        tool=tool,
        case=case.name,
        kind=case.kind,
        category=case.category,
        right=tuple(sorted(named & truth.needed)),
        extra=tuple(sorted(named - truth.needed - truth.optional)),
        missing=tuple(sorted(truth.needed - named)),
        runs=not failure and truth.used <= closure,
        size_bytes=environment.size_bytes(closure),
        true_bytes=environment.size_bytes(environment.closure(truth.needed)),
        cpu_s=round(bench.spent.cpu_s - before, 3),
        failure=failure,
    )


def score(answers: Iterable[Answer]) -> Score:
    """Add up answers; a share of nothing is 1."""
    answers = list(answers)
    right, extra, missing = (sum(len(getattr(a, name)) for a in answers) for name in ("right", "extra", "missing"))

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 1.0

    precision, recall = share(right, right + extra), share(right, right + missing)
    return Score(
        cases=len(answers),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        exact=share(sum(not (a.extra or a.missing or a.failure) for a in answers), len(answers)),
        runs=share(sum(a.runs for a in answers), len(answers)),
        mb_per_true=share(sum(a.size_bytes for a in answers), sum(a.true_bytes for a in answers)),
        cpu_s=share(sum(a.cpu_s for a in answers), len(answers)),
        failed=sum(bool(a.failure) for a in answers),
    )


HEADS = ("", "cases", "precision", "recall", "F1", "exact", "runs", "MB/true", "CPU s", "failed")


def cells(name: str, figures: Score) -> list[str]:
    shares = (figures.precision, figures.recall, figures.f1, figures.exact, figures.runs)
    rest = [f"{figures.mb_per_true:.2f}", f"{figures.cpu_s:.2f}", str(figures.failed)]
    return [name, str(figures.cases), *(f"{value:.3f}" for value in shares), *rest]


def tables(answers: list[Answer]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield title and rows: one table for scripts, one for functions, one of F1 and runs by category."""
    tools = list(dict.fromkeys(answer.tool for answer in answers))
    for kind in ("scripts", "functions"):
        mine = {tool: [a for a in answers if a.tool == tool and a.kind == kind] for tool in tools}
        rows = [cells(tool, score(some)) for tool, some in mine.items() if some]
        if rows:
            yield f"{kind.capitalize()}", [list(HEADS), *rows]
    everywhere = [tool for tool in tools if tool not in ONLY_FUNCTIONS]
    for title, field in (("F1 by category", "f1"), ("Recall by category", "recall"), ("Runs by category", "runs")):
        rows = [["", "cases", *everywhere]]
        for category in sorted({answer.category for answer in answers}):
            mine = {t: [a for a in answers if (a.tool, a.category) == (t, category)] for t in everywhere}
            count = max(map(len, mine.values()))
            rows.append([category, str(count), *(f"{getattr(score(some), field):.2f}" for some in mine.values())])
        yield title, rows


def as_text(title: str, rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
    return "\n".join([f"\n{title}", *lines])


def as_markdown(title: str, rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"\n### {title}\n", head, "|" + "---|" * len(rows[0]), *body])


def write_page(page: Path, text: str) -> None:
    """Put `text` between the marks of a page, and leave the rest of it."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    beside = page.with_suffix(".new")
    beside.write_text(f"{before}{MARKS[0]}\n{text}\n\n{MARKS[1]}{after}", encoding="utf-8")
    beside.replace(page)


def measure(cases: list[Case], tools: list[str], bench: Bench, jobs: int) -> Iterator[Answer]:
    """Ask every tool about every case, tool by tool, `jobs` at once."""
    judged = [(case, truth) for case in cases if (truth := read_truth(case))]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for tool in tools:
            asked = [pair for pair in judged if tool not in ONLY_FUNCTIONS or pair[0].function]
            yield from pool.map(lambda pair, tool=tool: ask(tool, *pair, bench), asked)


def read_answers(file: Path) -> list[Answer]:
    """Return the answers that `--json` wrote; judged again they are not."""
    entries = json.loads(file.read_text())
    return [Answer(**{name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}) for entry in entries]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the environment that is asked about")
    parser.add_argument("--peers", type=Path, required=True, help="folder of the commands of the other tools")
    parser.add_argument("--quick", action="store_true", help=f"every {QUICK}th case")
    parser.add_argument("--case", action="append", default=[], help="this case only; repeatable")
    parser.add_argument("--tool", action="append", default=[], choices=TOOLS, help="this tool only; repeatable")
    parser.add_argument("--run", action="store_true", help="also ask `envpack analyze --run`, which runs the programs")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every wrong answer")
    parser.add_argument("--json", type=Path, help="write all answers to this file")
    parser.add_argument(
        "--earlier",
        type=Path,
        action="append",
        default=[],
        help="add what --json wrote, of tools not asked now; repeatable",
    )
    parser.add_argument("--page", type=Path, help="replace the figures of this page")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    cases = list(read_cases(only=options.case))[:: QUICK if options.quick else 1]
    tools = options.tool or [tool for tool in TOOLS if options.run or tool not in LEFT_OUT]
    with tempfile.TemporaryDirectory(prefix="discovery-") as folder:
        bench = Bench(Environment(options.python), options.peers.absolute(), Path(folder))
        answers = []
        for answer in measure(cases, tools, bench, options.jobs):
            answers.append(answer)
            if options.verbose and (answer.extra or answer.missing or answer.failure):
                said = answer.failure.strip().splitlines()[-1:]
                print(
                    f"{answer.tool:14} {answer.case:28} extra {answer.extra} missing {answer.missing}",
                    *said,
                    flush=True,
                )
        asked = {case.name for case in cases}
        for file in options.earlier:
            answers += [answer for answer in read_answers(file) if answer.tool not in tools and answer.case in asked]
        answers.sort(key=lambda answer: list(TOOLS).index(answer.tool))
        named = ", ".join(f"{tool} {version}" for tool, version in versions(bench).items())
    about = (
        f"{len(cases)} cases, an environment of {len(bench.environment.distributions)} distributions, {named}; "
        f"{os.cpu_count()} cores, {options.jobs} at once."
    )
    print(about)
    for title, rows in tables(answers):
        print(as_text(title, rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(answer) for answer in answers], indent=1) + "\n")
    if options.page:
        write_page(options.page, "\n".join([f"\n{about}", *(as_markdown(*table) for table in tables(answers))]))
    sys.exit(any(answer.failure for answer in answers if answer.tool.startswith("envpack")))


if __name__ == "__main__":
    main()
