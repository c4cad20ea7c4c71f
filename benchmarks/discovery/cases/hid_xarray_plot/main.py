import xarray as xr

lines = xr.DataArray([1.0, 2.0, 4.0], dims="t").plot()
print(len(lines))
