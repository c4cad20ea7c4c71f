import pandas as pd

frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": [1, 3, 2, 4]})
print(round(float(frame["a"].corr(frame["b"], method="kendall")), 4))
