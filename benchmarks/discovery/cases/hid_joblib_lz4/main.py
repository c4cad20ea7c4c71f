import os
import tempfile

import joblib

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "values.lz4")
    joblib.dump([1, 2, 3], path, compress=("lz4", 1))
    print(joblib.load(path))
