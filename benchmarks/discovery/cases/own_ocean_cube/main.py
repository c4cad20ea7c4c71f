"""
A cube of sea temperatures
==========================

Builds a year of monthly means in a calendar without leap days, then resamples and interpolates.
"""

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

months = xr.date_range("2001-01-01", periods=12, freq="MS", calendar="noleap", use_cftime=True)
latitude = np.linspace(-60, 60, 5)
longitude = np.arange(0, 360, 90)
values = (
    15
    + 10 * np.cos(np.deg2rad(latitude))[None, :, None]
    + np.arange(12)[:, None, None] * 0.1
    + np.zeros(4)[None, None, :]
)
cube = xr.DataArray(
    values,
    coords={"time": months, "lat": latitude, "lon": longitude},
    dims=("time", "lat", "lon"),
    name="sst",
    attrs={"units": "degC"},
)

seasons = cube.groupby("time.season").mean("time")
print(sorted(seasons["season"].values.tolist()))
fine = cube.isel(time=0).interp(lat=[-45, 0, 45], method="cubic")
print(np.round(fine.isel(lon=0).values, 2))
weights = np.cos(np.deg2rad(cube.lat))
print(round(float(cube.weighted(weights).mean()), 3))

with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "sst.nc"
    cube.isel(time=0, drop=True).to_dataset().to_netcdf(target)
    with xr.open_dataset(target) as again:
        print(list(again.data_vars))

lines = cube.isel(lon=0, lat=0).drop_vars("time").plot.line()
print(len(lines))
