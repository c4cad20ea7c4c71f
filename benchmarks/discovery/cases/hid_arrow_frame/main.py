import pyarrow as pa

print(pa.table({"a": [1, 2]}).to_pandas().shape)
