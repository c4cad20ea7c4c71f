import pandas as pd

print(pd.DataFrame({"a": [1]}).to_xml(index=False).count("row"))
