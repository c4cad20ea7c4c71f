import pandas as pd

frame = pd.DataFrame({"a": [1, 2]})
frame.to_csv("memory://table.csv", index=False)
print(len(pd.read_csv("memory://table.csv")))
