from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
else:
    Axes = object

import click


def draw(frame: pd.DataFrame, axes: Axes) -> None:
    return None


print(click.style("a", reset=False), draw(None, None))
