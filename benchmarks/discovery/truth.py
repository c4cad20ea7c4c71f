"""Finds what each case needs by running it: in the whole environment, then in ever smaller ones until it breaks.

    ENVIRONMENT/bin/python benchmarks/discovery/truth.py [--jobs N] [--check] [CASE...]

A run counts as working if it ends with code 0 and prints what it printed in the whole environment. Then

- *direct* is what the program's own code imports, by a statement or by a function, or whose metadata it reads; of a
  function that travels also what its code names (globals, closure cells, defaults, annotations, classes);
- *hidden* is a smallest set beside the closure of the direct ones with which it works (QuickXplain: Junker,
  "Preferred explanations and relaxations for over-constrained problems", AAAI 2004);
- a direct one without which it still works is *optional*, and so is what imports name that did not run;
- *used* is what it touches in the closure of direct and hidden, which is the last environment it is run in.

Nothing here knows any of the tools that are compared.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from case import CASES, Case, Truth, read_cases, read_truth
from environment import Environment, canonicalize_name, python_version
from inside.program import code_of
from observe import Bench, Observation, bench

Works = Callable[[Iterable[str]], bool]
Closure = Callable[[Iterable[str]], set[str]]
VERSIONS = Path(__file__).parent / "environment.json"


def find_truth(on: Bench) -> Truth:
    """Run the case as often as it takes to know what it needs.

    Raises:
        RuntimeError: It does not work in the whole environment, or works in no smaller one.
    """
    environment = on.environment
    if on.case.function:
        on.send()
    whole = on.observe(environment.distributions)
    if not whole.ok:
        raise RuntimeError(f"{on.case.name}: fails in the whole environment:\n{whole.errors[-2000:]}")

    def works(names: Iterable[str]) -> bool:
        seen = on.observe(set(names))
        return seen.ok and seen.output == whole.output

    direct = [*dict.fromkeys([*(on.sent.named if on.sent else ()), *whole.of("stated", "called", "metadata")])]
    hidden = find_hidden(environment, whole, direct, works)
    needed = drop_optional(direct, hidden, environment.closure, works)
    final = on.observe(environment.closure(needed))
    if not final.ok or final.output != whole.output:
        raise RuntimeError(f"{on.case.name}: does not work with {sorted(needed)}:\n{final.errors[-2000:]}")
    used = environment.closure(needed) & {*needed, *final.of("opened")}
    implied = on.sent.implied if on.sent else ()
    optional = {*direct, *whole.of("implied"), *implied, *mentioned(on, environment)} - set(needed)
    return Truth(frozenset(needed), frozenset(optional), frozenset(used))


def drop_optional(direct: Sequence[str], hidden: Sequence[str], closure: Closure, works: Works) -> list[str]:
    """Return `hidden` and those of `direct` without which it does not work.

    Of alternatives the one that is tried first is kept. One that is needed only because another optional one is there
    is found in a second round.
    """
    kept = list(direct)
    while True:
        present = closure([*kept, *hidden])
        needed = []
        for name in reversed(kept):
            if works(present - {name}):
                present -= {name}
            else:
                needed.append(name)
        if len(needed) == len(kept):
            return [*hidden, *needed]
        kept = needed[::-1]


def find_hidden(environment: Environment, whole: Observation, direct: Sequence[str], works: Works) -> list[str]:
    """Return what has to be there beside the closure of `direct`."""
    base = environment.closure(direct)
    if works(base):
        return []
    for candidates in (whole.of("opened", "described"), sorted(environment.distributions)):
        beside = [name for name in candidates if name not in base]
        # Who requires most is dropped first: scipy, not what happens to require it.
        beside.sort(key=lambda name: -len(environment.closure([name])))
        if beside and works(environment.closure([*base, *beside])):
            return explain(beside, base, environment.closure, works)
    raise RuntimeError("works in no smaller environment")


def explain(candidates: Sequence[str], base: set[str], closure: Closure, works: Works) -> list[str]:
    """Return a smallest part of `candidates` with which, beside `base`, it works; it does with all, and not with none.

    Of two that would do, the later candidate is taken.
    """
    if len(candidates) == 1:
        return list(candidates)
    middle = len(candidates) // 2
    first, second = candidates[:middle], candidates[middle:]
    with_second = closure([*base, *second])
    kept = [] if works(with_second) else explain(first, with_second, closure, works)
    with_kept = closure([*base, *kept])
    rest = [] if works(with_kept) else explain(second, with_kept, closure, works)
    return [*kept, *rest]


def mentioned(on: Bench, environment: Environment) -> set[str]:
    """Return the distributions of the imports that could have run: not those for type checkers."""
    modules = set(on.sent.mentioned) if on.sent else set()
    pending = [] if on.sent else [on.project / on.case.script if on.case.script else entry_of(on)]
    local = set(on.project.rglob("*.py"))
    seen = set()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        found = set(imports_of(ast.parse(code_of(str(file)))))
        modules |= found
        pending += [other for other in local if names_of(other, on.project) & {name.lstrip(".") for name in found}]
    own = {part for path in local for part in path.relative_to(on.project).with_suffix("").parts}
    return {name for module in modules if (name := distribution_of(module, environment, own))}


def entry_of(on: Bench) -> Path:
    path = on.project / on.case.module.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def names_of(file: Path, project: Path) -> set[str]:
    """Return the names that an import statement may have for a local file."""
    parts = [*file.relative_to(project).parts[:-1], *([] if file.stem == "__init__" else [file.stem])]
    return {".".join(parts[start:]) for start in range(len(parts))}


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that are imported by their own name, relative ones with their dots.

    Statements, and calls with a constant; but not what stands under `if TYPE_CHECKING`.
    """
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        for node in tree.orelse:
            yield from imports_of(node)
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        parts = [tree.module] if tree.module else []
        names = (name for alias in tree.names for name in (tree.module, ".".join([*parts, alias.name])) if name)
        yield from ("." * tree.level + name for name in names)
    elif isinstance(tree, ast.Call) and ast.unparse(tree.func).endswith(("import_module", "__import__")):
        yield from (str(first.value) for first in tree.args[:1] if isinstance(first, ast.Constant))
    for node in ast.iter_child_nodes(tree):
        yield from imports_of(node)


def distribution_of(module: str, environment: Environment, own: set[str]) -> str | None:
    """Return whose module it is; the module's own name where nothing installed has it."""
    top = module.partition(".")[0]
    if not top or top in sys.stdlib_module_names or top in own:
        return None
    path = module.replace(".", "/")
    for file in (f"{path}.py", f"{path}/__init__.py", f"{top}.py", f"{top}/__init__.py"):
        if owners := environment.owners.get(file):
            return min(owners)
    compiled = (owners for file, owners in environment.owners.items() if file.startswith(f"{top}."))
    if owners := next(compiled, None):
        return min(owners)
    return None if any(file.startswith(f"{top}/") for file in environment.owners) else str(canonicalize_name(top))


def settle(case: Case, environment: Environment, folder: Path) -> tuple[Case, Truth | None, int, str]:
    """Find the truth of one case; return it with the number of runs, or None with the reason."""
    with bench(case, environment, folder / case.name) as on:
        try:
            return case, find_truth(on), len(on.known), ""
        except RuntimeError as error:
            return case, None, len(on.known), str(error)


def record_versions(environment: Environment) -> None:
    """Write which versions the truths hold for."""
    versions = {name: dist.version for name, dist in sorted(environment.distributions.items())}
    VERSIONS.write_text(json.dumps({"python": python_version(), "distributions": versions}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", metavar="CASE", help="these cases instead of all that have no truth yet")
    parser.add_argument("--all", action="store_true", help="find truths again that are there")
    parser.add_argument("--cases", type=Path, default=CASES, help="folder of the cases")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter of the environment")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once")
    parser.add_argument(
        "--check", action="store_true", help="say what differs from the truths that are there, and fail"
    )
    options = parser.parse_args()
    environment = Environment(options.python)
    everything = list(read_cases(options.cases, options.only))
    asked = [case for case in everything if options.only or options.all or options.check or read_truth(case) is None]
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="truth-") as made,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        futures = [pool.submit(settle, case, environment, Path(made)) for case in asked]
        for future in concurrent.futures.as_completed(futures):
            case, truth, runs, reason = future.result()
            known = read_truth(case)
            if truth is None:
                bad += 1
                print(f"{case.name}: {reason}", file=sys.stderr)
            elif options.check:
                bad += truth != known
                print(f"{case.name:32} {'as recorded' if truth == known else f'differs: {truth}'}")
            else:
                (case.folder / "truth.toml").write_text(truth.to_toml(), encoding="utf-8")
                print(
                    f"{case.name:32} {runs:3} runs  {sorted(truth.needed)}  optional {sorted(truth.optional)}",
                    flush=True,
                )
    if not options.check and options.cases == CASES:
        record_versions(environment)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
