import os
import tempfile

import numpy as np
import xarray as xr

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "a.nc")
    xr.Dataset({"t": ("x", np.arange(3))}).to_netcdf(path, engine="scipy")
    with xr.open_dataset(path, engine="scipy") as data:
        print(int(data["t"].sum()))
