import pandas as pd

series = pd.Series([1.0, 2.0, 3.0])
print(series.rolling(2).mean(engine="numba").tolist()[1:])
