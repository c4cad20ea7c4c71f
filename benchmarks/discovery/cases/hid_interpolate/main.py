import pandas as pd

series = pd.Series([0.0, None, 4.0, 9.0, 16.0])
print(round(float(series.interpolate().iloc[1]), 3), round(float(series.interpolate(method="quadratic").iloc[1]), 3))
