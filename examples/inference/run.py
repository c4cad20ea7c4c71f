"""The whole flow on real input: discover, pack, run in warm workers, measure, predict.

Run it with `make demo`. It trains a classifier on the digits that come with scikit-learn, and then lets two workers
that see nothing but packed environments run 200 calls of 16 predictions at three levels of reuse.

    python examples/inference/run.py [--calls 200] [--cold-calls 10]
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from functions import MODEL, classify, report, spectrum
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from envpack import Dependencies, Manifest, Store, analyze, pack
from envpack_executor import ContextExecutor, ExecutorStats, Task
from envpack_monitor import Allocation, History
from envpack_monitor.learning import open_predictor
from envpack_monitor.units import format_bytes, format_seconds

TASKS = (classify, spectrum, report)
IMAGES_PER_CALL = 16
WORKERS = 2
FIXED_GUESS = Allocation(memory_bytes=2_000_000_000)
Batches = Sequence[np.ndarray]

console = Console(width=None if sys.stdout.isatty() else 118)
progress_console = Console(stderr=True)


@dataclass(frozen=True)
class Level:
    """What one level of reuse cost.

    Args:
        calls: how many ran.
        elapsed_s: from the first submission to the last result.
        set_ups: how often an interpreter was started, its packages imported and the classifier loaded.
        inference_s: of that, the time inside `classify`, summed over the calls.
    """

    name: str
    calls: int
    elapsed_s: float
    set_ups: int
    inference_s: float

    @property
    def call_s(self) -> float:
        """What a call cost one worker, in seconds."""
        return self.elapsed_s * WORKERS / self.calls

    @property
    def inference_share(self) -> float:
        return self.inference_s / self.calls / self.call_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200, help="calls at each level but the first (default: 200)")
    parser.add_argument("--cold-calls", type=int, default=10, help="calls with nothing kept (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envpack-demo-") as folder:
        images = train(MODEL)
        store = Store(Path(folder) / "store")
        needed = discover()
        manifests = pack_all(needed, store)
        history = Path(folder) / "history.sqlite"
        cold, warm = list(batches(images, options.cold_calls)), list(batches(images, options.calls))
        compare_levels(cold, warm, manifests["classify"], store, Path(folder), history)
        run_others(warm, store, history)
        show_usage(history)


def train(path: Path) -> np.ndarray:
    """Train a classifier, save it to `path`, and return images that it has not seen."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    images, digits = load_digits(return_X_y=True)
    half = len(images) // 2
    classifier = RandomForestClassifier(n_estimators=200, random_state=0).fit(images[:half], digits[:half])
    path.write_bytes(pickle.dumps(classifier))
    score = classifier.score(images[half:], digits[half:])
    saved = f"{path.name}, {size(path.stat().st_size)}"
    console.print(f"Trained on {half} digits, {score:.1%} right on the others; saved to {saved}.")
    return images[half:]


def batches(images: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield `count` batches of images, over and over."""
    starts = itertools.cycle(range(0, len(images) - IMAGES_PER_CALL, IMAGES_PER_CALL))
    for start in itertools.islice(starts, count):
        yield images[start : start + IMAGES_PER_CALL]


# --- 1. what does each function need, and why?


def discover() -> dict[str, Dependencies]:
    heading("1. What each function needs, and why")
    needed = {task.__name__: analyze(task) for task in TASKS}
    for name, dependencies in needed.items():
        table = Table("distribution", "version", "because", box=None, padding=(0, 2, 0, 0), title_justify="left")
        for distribution in dependencies.distributions:
            why = [f"{e.module} at {Path(e.file).name}:{e.line}" for e in distribution.evidence]
            because = ", ".join(why) or f"required by {', '.join(distribution.required_by)}"
            table.add_row(distribution.name, distribution.version, because)
        for file, e in zip(dependencies.local_files, dependencies.local_evidence, strict=True):
            table.add_row(Path(file).name, "local", f"{e.module} at {Path(e.file).name}:{e.line}")
        console.print(f"\n[bold]{name}[/bold]")
        console.print(table)
    return needed


# --- 2. pack it, once


def pack_all(needed: dict[str, Dependencies], store: Store) -> dict[str, Manifest]:
    heading("2. Packed into layers")
    manifests, built, seconds = pack_each(needed, store)
    users: dict[str, list[str]] = {}
    for name, manifest in manifests.items():
        for layer in manifest.layers:
            users.setdefault(layer.digest, []).append(name)
    table = Table("layer", "version", "unpacked", "packed", "digest", "used by", box=None, padding=(0, 2, 0, 0))
    layers = {layer.digest: layer for manifest in manifests.values() for layer in manifest.layers}
    for digest, layer in sorted(layers.items(), key=lambda item: item[1].name):
        packed = store.blob(digest).stat().st_size
        shared = ", ".join(users[digest])
        table.add_row(layer.name, layer.version, size(layer.size_bytes), size(packed), digest[:12], shared)
    console.print(table)
    console.print(f"{built} layers built in {seconds:.2f} s.")
    _, built, seconds = pack_each(needed, store)
    console.print(f"Packed again: {built} layers built, in {seconds:.2f} s.")
    return manifests


def pack_each(needed: dict[str, Dependencies], store: Store) -> tuple[dict[str, Manifest], int, float]:
    """Return the manifests by function, the number of layers that had to be built, and the seconds that it took."""
    events = []
    started = time.perf_counter()
    with Progress(console=progress_console, transient=True) as progress:
        bar = progress.add_task("packing", total=None)

        def show(event) -> None:
            events.append(event)
            progress.update(bar, description=f"packed {event.ref.name}")

        manifests = {name: pack(dependencies, store=store, progress=show) for name, dependencies in needed.items()}
    return manifests, sum(event.built for event in events), time.perf_counter() - started


# --- 3. three levels of reuse


def compare_levels(cold: Batches, warm: Batches, manifest: Manifest, store: Store, folder: Path, history: Path) -> None:
    heading(f"3. {IMAGES_PER_CALL} predictions a call on {WORKERS} workers that see the pack alone")
    pack_file = folder / "classify.tar.zst"
    store.export(manifest, pack_file)
    levels = [
        nothing_kept(cold, pack_file, folder),
        environment_kept(warm, manifest, store),
        context_kept(warm, manifest, store, history),
    ]
    table = Table("level", "calls", "s per call", "set-ups", "pure inference", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for level in levels:
        share = f"{level.inference_share:.1%}"
        table.add_row(level.name, str(level.calls), f"{level.call_s:.4f}", str(level.set_ups), share)
    console.print(table)
    first, last = levels[0], levels[-1]
    saved = 1 - last.call_s / first.call_s
    console.print(f"A call with everything kept costs {saved:.1%} less than one with nothing kept.")


def nothing_kept(batches: Batches, pack_file: Path, folder: Path) -> Level:
    """Each call unpacks the environment into an empty store, starts an interpreter, imports and loads."""

    def one_call(number: int, batch: np.ndarray) -> ExecutorStats:
        empty = folder / f"cold-{number}"
        with ContextExecutor(1, environment=pack_file, store=empty, history=None) as executor:
            executor.submit(classify, batch).result()
            return executor.stats()

    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as threads:
        futures = [threads.submit(one_call, n, batch) for n, batch in enumerate(batches)]
        stats = [future.result() for future in watched("L1 nothing kept", futures)]
    elapsed_s = time.perf_counter() - started
    inference_s = sum(each.categories["classify"].wall_s for each in stats)
    return Level("L1 nothing kept", len(batches), elapsed_s, sum(each.set_ups for each in stats), inference_s)


def environment_kept(batches: Batches, manifest: Manifest, store: Store) -> Level:
    """Each call starts an interpreter in the unpacked environment, imports and loads."""
    fresh = Task(classify.function, classify.options.with_mode("fresh"))
    return run_level("L2 environment kept on disk", fresh, batches, manifest, store, None)


def context_kept(batches: Batches, manifest: Manifest, store: Store, history: Path) -> Level:
    """Each call finds interpreter, modules and classifier in memory."""
    return run_level("L3 context kept in memory", classify, batches, manifest, store, history)


def run_level(name: str, task: Task, batches: Batches, manifest: Manifest, store: Store, history: Path | None) -> Level:
    started = time.perf_counter()
    with ContextExecutor(WORKERS, environment=manifest, store=store.folder, history=history) as executor:
        futures = [executor.submit(task, batch) for batch in batches]
        for future in watched(name, futures):
            future.result()
        elapsed_s = time.perf_counter() - started
        stats = executor.stats()
    return Level(name, len(batches), elapsed_s, stats.set_ups, stats.categories["classify"].wall_s)


def watched(name: str, futures: Iterable[Future]) -> Iterator[Future]:
    """Yield futures as they are done, with a progress bar."""
    futures = list(futures)
    with Progress(console=progress_console, transient=True) as progress:
        yield from progress.track(as_completed(futures), total=len(futures), description=name)


# --- 4. what was used, and what to set aside for the next call


def run_others(batches: Batches, store: Store, history: Path) -> None:
    """Run the two other functions, each in the environment that is discovered for it."""
    with ContextExecutor(WORKERS, environment="auto", store=store.folder, history=history) as executor:
        spectra = [executor.submit(spectrum, batch) for batch in batches]
        digits = [executor.submit(report, list(range(10))) for _ in batches]
        for future in watched("spectrum and report", [*spectra, *digits]):
            future.result()


def show_usage(history: Path) -> None:
    heading("4. What calls used, and what the next one gets")
    remembered = History(history)
    predictor = open_predictor(remembered)
    titles = ("category", "calls", "wall a call", "CPU a call", "peak memory", "predicted", "fixed guess")
    table = Table(*titles, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in remembered.categories():
        predicted = predictor.predict(summary.category, {})
        table.add_row(
            summary.category,
            str(summary.calls),
            format_seconds(summary.wall_s / summary.calls),
            format_seconds(summary.cpu_s / summary.calls),
            format_bytes(summary.peak_memory_bytes),
            format_bytes(predicted.memory_bytes),
            format_bytes(FIXED_GUESS.memory_bytes),
        )
    console.print(table)


def heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]\n{'-' * len(text)}")


def size(size_bytes: int) -> str:
    return format_bytes(size_bytes)


if __name__ == "__main__":
    main()
