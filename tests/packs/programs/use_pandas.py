"""A table to CSV and to parquet and back, grouped and joined."""

import tempfile
from pathlib import Path

import pandas as pd

frame = pd.DataFrame(
    {
        "day": pd.date_range("2024-02-27", periods=6, tz="Europe/Berlin").astype(str),
        "site": list("ababab"),
        "value": [1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
    }
)
with tempfile.TemporaryDirectory() as folder:
    text, columns = Path(folder) / "table.csv", Path(folder) / "table.parquet"
    frame.to_csv(text, index=False)
    frame.to_parquet(columns)
    print("csv", pd.read_csv(text).equals(frame))
    back = pd.read_parquet(columns)
print("parquet", back.equals(frame))
means = back.groupby("site", as_index=False)["value"].mean()
print(back.merge(means, on="site", suffixes=("", "_mean")).to_string(index=False))
