import os
import tempfile

import pandas as pd

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "table.parquet")
    pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    print(pd.read_parquet(path)["a"].tolist())
