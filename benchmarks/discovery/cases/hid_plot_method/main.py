import pandas as pd

axes = pd.Series([1, 2, 3]).plot(kind="bar")
print(len(axes.patches))
