from __future__ import annotations

import pandas as pd
import toolz
import xarray as xr


def count(values: pd.Series, weights: xr.DataArray | None = None) -> pd.Series:
    return toolz.count(values)
