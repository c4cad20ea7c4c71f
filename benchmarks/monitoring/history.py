"""Claim: a row of the history costs its writer a few microseconds of CPU, 16 processes lose none, and reads stay fast.

Three parts. Writing: what `HistoryWriter` costs per row, CPU of all its threads and of SQLite, against SQLite used the
plain way (a transaction per call; `executemany` of all columns). Many writers: 16 processes at once on one file, and
whether each row is there. Reading: what a predictor asks when it starts, in a file of a million rows.

    python benchmarks/monitoring/history.py [--rounds 5] [--rows 20000] [--stored 1000000] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from envpack_monitor import History, HistoryWriter
from envpack_monitor.usage import FIELDS

WRITERS = 16
CATEGORIES = 1_000
FIGURES: dict[str, Any] = {
    "started_at": 1.7e9,
    "wall_s": 1.2e-3,
    "cpu_user_s": 1e-3,
    "cpu_system_s": 1e-4,
    "memory_before_bytes": 31_244_288,
    "peak_memory_bytes": 41_244_288,
    "voluntary_switches": 0,
    "involuntary_switches": 1,
    "minor_faults": 12,
    "major_faults": 0,
    "bytes_read": 4096,
    "bytes_written": 0,
    "quality": "exact",
    "category": "module.function",
}


def queued_writer(path: Path, rows: int) -> None:
    with HistoryWriter(History(path), rows_per_s=0) as writer:
        for _ in range(rows):
            writer.put(dict(FIGURES))


def batches_of_all_columns(path: Path, rows: int) -> None:
    connection = _plain(path)
    insert = f"INSERT INTO calls ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"
    for at in range(0, rows, 5_000):
        connection.execute("BEGIN")
        connection.executemany(insert, [[FIGURES.get(name) for name in FIELDS] for _ in range(min(5_000, rows - at))])
        connection.execute("COMMIT")
    connection.close()


def transaction_per_call(path: Path, rows: int) -> None:
    connection = _plain(path)
    insert = f"INSERT INTO calls ({', '.join(FIGURES)}) VALUES ({', '.join('?' * len(FIGURES))})"
    for _ in range(rows):
        connection.execute(insert, list(FIGURES.values()))
    connection.close()


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {', '.join(FIELDS)})")
    connection.execute("CREATE INDEX calls_by_category ON calls (category)")
    return connection


WAYS: dict[str, Callable[[Path, int], None]] = {
    "HistoryWriter": queued_writer,
    "executemany of all columns": batches_of_all_columns,
    "a transaction per call": transaction_per_call,
}


def measure_writing(folder: Path, rounds: int, rows: int) -> list[dict[str, Any]]:
    """In turns; CPU of the whole process."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name, write in WAYS.items():
            path = folder / f"{number}-{list(WAYS).index(name)}.sqlite"
            wall, cpu = time.perf_counter(), time.process_time()
            write(path, rows)
            found[name].append(((time.perf_counter() - wall) / rows, (time.process_time() - cpu) / rows))
    return [
        {
            "way": name,
            "cpu_us_per_row": statistics.median(cpu for _, cpu in times) * 1e6,
            "cpu_us_least": min(cpu for _, cpu in times) * 1e6,
            "cpu_us_most": max(cpu for _, cpu in times) * 1e6,
            "rows_per_s": 1 / statistics.median(wall for wall, _ in times),
        }
        for name, times in found.items()
    ]


def measure_many_writers(folder: Path, rows: int) -> dict[str, Any]:
    path = folder / "many.sqlite"
    context = get_context("fork")
    processes = [context.Process(target=queued_writer, args=(path, rows)) for _ in range(WRITERS)]
    wall, before = time.perf_counter(), os.times()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    wall, after = time.perf_counter() - wall, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    (summary,) = History(path).categories()
    return {
        "writers": WRITERS,
        "rows": WRITERS * rows,
        "lost": WRITERS * rows - summary.calls,
        "rows_per_s": WRITERS * rows / wall,
        "cpu_us_per_row": cpu / (WRITERS * rows) * 1e6,
    }


def measure_reading(folder: Path, rounds: int, stored: int) -> dict[str, Any]:
    path = folder / "large.sqlite"
    history = History(path)
    for at in range(0, stored, 10_000):
        rows = range(at, min(at + 10_000, stored))
        history.add_many({**FIGURES, "category": f"category {n * 7919 % CATEGORIES}"} for n in rows)
    history.close()
    asked: dict[str, Callable[[], object]] = {
        "open the file": lambda: History(path).load_state("none"),
        "newest 100 of one category": lambda: history.calls("category 7", 100),
        "newest 5,000 of all": lambda: history.since(0, 5_000),
        "what is new since the last 100": lambda: history.since(stored - 100, 5_000),
        f"names of {CATEGORIES} categories": history.names,
        "load a state of 1 MB": lambda: history.load_state("learned"),
        "sums of all categories (ls)": history.categories,
    }
    history.save_state("learned", b"x" * 1_000_000, stored)
    times = {name: [_timed(ask) for _ in range(rounds)] for name, ask in asked.items()}
    file = {"rows": stored, "bytes_per_row": path.stat().st_size / stored}
    return file | {"ms": {name: statistics.median(each) * 1e3 for name, each in times.items()}}


def _timed(ask: Callable[[], object]) -> float:
    begin = time.perf_counter()
    ask()
    return time.perf_counter() - begin


def show(result: dict[str, Any]) -> None:
    print(f"{'writing':30}{'CPU us/row':>12}{'least':>8}{'most':>8}{'rows/s':>12}")
    for way in result["writing"]:
        cpu, least, most = way["cpu_us_per_row"], way["cpu_us_least"], way["cpu_us_most"]
        print(f"{way['way']:30}{cpu:12.1f}{least:8.1f}{most:8.1f}{way['rows_per_s']:12,.0f}")
    many = result["many_writers"]
    print(
        f"\n{many['writers']} processes, {many['rows']:,} rows: {many['rows_per_s']:,.0f} rows/s, "
        f"{many['cpu_us_per_row']:.1f} us CPU per row, {many['lost']} lost"
    )
    reading = result["reading"]
    print(f"\nreading, {reading['rows']:,} rows of {reading['bytes_per_row']:.0f} bytes")
    for name, value in reading["ms"].items():
        print(f"{name:40}{value:10.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, two rounds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    share = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "writing": measure_writing(folder, rounds, options.rows // share),
            "many_writers": measure_many_writers(folder, options.rows // share),
            "reading": measure_reading(folder, rounds, options.stored // share),
        }
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
