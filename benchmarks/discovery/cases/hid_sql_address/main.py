import os
import tempfile

import pandas as pd

with tempfile.TemporaryDirectory() as folder:
    address = f"sqlite:///{os.path.join(folder, 'data.db')}"
    pd.DataFrame({"a": [1, 2]}).to_sql("t", address, index=False)
    print(pd.read_sql("select sum(a) as s from t", address)["s"].iloc[0])
