import numpy as np
import xarray as xr

array = xr.DataArray(np.ones((4, 4)), dims=("x", "y")).chunk({"x": 2})
print(float(array.sum().compute()))
