"""An HDF5 file with a compressed dataset, attributes and a group, written and read back."""

import tempfile
from pathlib import Path

import h5py
import numpy as np

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("detector/counts", data=np.arange(1000).reshape(10, 100), compression="gzip")
        data.attrs["unit"] = "photons"
    with h5py.File(path) as file:
        counts = file["detector/counts"]
        print(counts.compression, counts.attrs["unit"], counts.chunks, int(counts[3:5].sum()))
        print(list(file), list(file["detector"]))
