"""Charts as pictures, by matplotlib where it is installed. The same input gives the same bytes."""

from __future__ import annotations

from typing import IO, Any

from envpack_monitor.errors import MissingLibraryError
from envpack_monitor.plots.charts import Line, bins_of, format_value

# Without their dates, which would make two pictures of the same calls differ.
KINDS: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_TIME_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def picture_of_calls(title: str, line: Line, file: IO[bytes], kind: str) -> None:
    """Draw a figure of calls: how often which value, and over time.

    Args:
        title: above it.
        line: the figure; at least one point.
        file: where to.
        kind: one of `KINDS`.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    figure = _figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    bins = bins_of(line.values, 30)
    left.hist(line.values, bins=bins.edges if len(bins.counts) > 1 else 1)
    if bins.is_log:
        left.set_xscale("log")
    left.set(xlabel=line.name, ylabel="calls")
    _say_units(left.xaxis, line.name)
    unit, seconds = _time_unit([line])
    right.plot([at / seconds for at in line.times_s], line.values, ".", markersize=3)
    _finish_lines(right, [line])
    right.set_xlabel(f"{unit} since the first call")
    figure.suptitle(title)
    _save(figure, file, kind)


def picture_of_series(title: str, lines: list[Line], file: IO[bytes], kind: str) -> None:
    """Draw lines over time, those of one unit in a panel of their own; arguments as for `picture_of_calls`.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    panels: dict[str, list[Line]] = {}
    for line in lines:
        panels.setdefault(_panel(line.name), []).append(line)
    figure = _figure(9.0, 1.0 + 2.0 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    unit, seconds = _time_unit(lines)
    for axis, group in zip(axes, panels.values(), strict=True):
        for line in group:
            axis.plot([at / seconds for at in line.times_s], line.values, label=line.name, linewidth=1.2)
        _finish_lines(axis, group)
    axes[-1].set_xlabel(f"{unit} since the start")
    figure.suptitle(title)
    _save(figure, file, kind)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingLibraryError("matplotlib", "a picture", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def _finish_lines(axis: Any, lines: list[Line]) -> None:
    axis.set_ylim(bottom=min(0.0, *(min(line.values) for line in lines)))
    axis.grid(alpha=0.3)
    _say_units(axis.yaxis, lines[0].name)
    if len(lines) > 1:
        axis.legend(frameon=False)
    else:
        axis.set_ylabel(lines[0].name)


def _say_units(axis: Any, name: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(
        FuncFormatter(lambda value, _: format_value(name, value).replace(".0 ", " ") if value else "0")
    )


def _time_unit(lines: list[Line]) -> tuple[str, float]:
    last = max(line.times_s[-1] for line in lines)
    return next((unit, seconds) for unit, seconds in _TIME_UNITS if last > 2 * seconds or seconds == 1.0)


def _panel(name: str) -> str:
    """Return which panel a figure belongs to: what moves bytes together, what counts heads together."""
    if name in ("processes", "threads"):
        return "heads"
    return "moved" if name.startswith("bytes_") else name


def _save(figure: Any, file: IO[bytes], kind: str) -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "envpack"}):
        figure.savefig(file, format=kind, dpi=120, metadata=KINDS[kind])
