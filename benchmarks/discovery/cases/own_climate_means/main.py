"""Monthly means and anomalies of a synthetic grid with a model calendar."""

import numpy as np
import xarray as xr

YEARS = 2


def grid():
    time = xr.date_range("2000-01-01", periods=360 * YEARS, freq="D", calendar="360_day", use_cftime=True)
    season = 10 * np.sin(2 * np.pi * np.arange(time.size) / 360)
    latitude = np.linspace(-60, 60, 5)
    values = season[:, None] * np.sign(latitude)[None, :] + (30 - np.abs(latitude) / 3)[None, :]
    return xr.DataArray(values, coords={"time": time, "lat": latitude}, dims=("time", "lat"), name="t2m")


def weights(array):
    return np.cos(np.deg2rad(array["lat"]))


def monthly(array):
    return array.groupby("time.month").mean()


def anomalies(array):
    return array.groupby("time.month") - monthly(array)


def main():
    lazy = grid().chunk({"time": 180})
    mean = lazy.weighted(weights(lazy)).mean().compute()
    print(float(mean.round(2)))
    print(dict(monthly(lazy).sizes))
    print(bool(abs(anomalies(lazy).sum()).compute() < 1e-6))


if __name__ == "__main__":
    main()
