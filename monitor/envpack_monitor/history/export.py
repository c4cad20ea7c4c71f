"""A history as a file of another kind: CSV, JSON, Parquet, or a trace for replaying predictors.

`export` writes every field of `Usage`, one row per row of the history; CSV holds the objects (`features`,
`peak_times`) as JSON, Parquet as maps. A trace has the columns of `TRACE_COLUMNS` and only calls that tell what they
needed, in the order in which they began. All but a trace take one page of calls in memory at a time.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, Any

from envpack_monitor.errors import MissingLibraryError
from envpack_monitor.learning import tells_need
from envpack_monitor.usage import FIELDS, Usage

TRACE_COLUMNS = (
    "seq",
    "category",
    "peak_mb",
    "wall_s",
    "input_bytes",
    "preset_mb",
    "cores",
    "submit_s",
    "start_s",
)
"""1 MB is 10^6 bytes; an empty value is unknown."""

_ROWS_PER_GROUP = 10_000


def export_csv(calls: Iterable[Usage], file: IO[bytes]) -> int:
    """Write calls as CSV with a head; return how many."""
    return _write_csv(FIELDS, (_flat(call) for call in calls), file)


def export_json(calls: Iterable[Usage], file: IO[bytes]) -> int:
    """Write calls as one JSON object, `{"schema": 1, "calls": [...]}`, with a call per line; return how many."""
    count = 0
    file.write(b'{"schema": 1, "calls": [')
    for count, call in enumerate(calls, start=1):
        file.write(b"\n" if count == 1 else b",\n")
        file.write(json.dumps(call.to_dict()).encode())
    file.write(b"\n]}\n")
    return count


def export_parquet(calls: Iterable[Usage], file: IO[bytes]) -> int:
    """Write calls as a Parquet table; return how many.

    Raises:
        MissingLibraryError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingLibraryError("pyarrow", "Parquet", "parquet") from error
    schema = _arrow_schema(pyarrow)
    count, rest = 0, iter(calls)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rest, _ROWS_PER_GROUP)):
            rows = [{name: getattr(call, name) for name in FIELDS} for call in group]
            columns = {name: [_items(row[name]) for row in rows] for name in FIELDS}
            writer.write_table(pyarrow.table(columns, schema=schema))
            count += len(group)
    return count


def export_trace(calls: Iterable[Usage], file: IO[bytes]) -> int:
    """Write the calls that tell what they needed as a trace, the earliest start as time zero; return how many.

    Failed calls, calls without a known peak, and aggregates of many calls are left out.
    """
    return _write_csv(TRACE_COLUMNS, _trace_rows(calls), file)


FORMATS: dict[str, Callable[[Iterable[Usage], IO[bytes]], int]] = {
    "csv": export_csv,
    "json": export_json,
    "parquet": export_parquet,
}


def _write_csv(head: tuple[str, ...], rows: Iterable[Iterable[Any]], file: IO[bytes]) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    text.flush()
    # The file is the caller's to close.
    text.detach()
    return count


def _flat(call: Usage) -> Iterator[Any]:
    for name in FIELDS:
        value = getattr(call, name)
        yield (json.dumps(value, sort_keys=True) if value else None) if isinstance(value, dict) else value


def _items(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value


def _arrow_schema(pyarrow: Any) -> Any:
    kinds = {
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "str": pyarrow.string(),
        "dict": pyarrow.map_(pyarrow.string(), pyarrow.float64()),
    }
    return pyarrow.schema([(name, kinds[_kind(name)]) for name in FIELDS])


def _kind(name: str) -> str:
    return str(Usage.__annotations__[name]).partition(" | ")[0].partition("[")[0]


def _trace_rows(calls: Iterable[Usage]) -> Iterator[tuple[Any, ...]]:
    found = [
        (call.started_at, call.category, call.peak_memory_bytes, call.wall_s, call.cores, _input_bytes(call.features))
        for call in calls
        if call.calls == 1 and call.peak_memory_bytes is not None and tells_need(call)
    ]
    # The history has them in the order in which they ended.
    found.sort(key=lambda call: call[0])
    for number, (started_at, category, peak_bytes, wall_s, cores, input_bytes) in enumerate(found):
        start = round(started_at - found[0][0], 6)
        peak_mb, cores_text = f"{peak_bytes / 1e6:.6g}", "" if cores is None else f"{cores:.4g}"
        yield number, category, peak_mb, f"{wall_s:.9g}", input_bytes, "", cores_text, start, start


def _input_bytes(features: dict[str, float]) -> str:
    """Return the size of a call's input: the feature of that name, or all features that are sizes in bytes."""
    sizes = [value for name, value in features.items() if name.endswith("bytes")]
    total = features.get("input_bytes", sum(sizes) if sizes else None)
    return "" if total is None else f"{total:.12g}"
