import pandas as pd

series = pd.Series([1, 2, None], dtype="int64[pyarrow]")
print(int(series.sum()))
