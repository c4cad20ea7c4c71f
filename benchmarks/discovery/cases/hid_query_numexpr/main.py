import pandas as pd

frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
print(frame.eval("a + b", engine="numexpr").tolist())
