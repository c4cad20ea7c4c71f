import sqlite3

import pandas as pd

connection = sqlite3.connect(":memory:")
pd.DataFrame({"a": [1, 2]}).to_sql("t", connection, index=False)
print(pd.read_sql_query("select count(*) as n from t", connection)["n"].iloc[0])
