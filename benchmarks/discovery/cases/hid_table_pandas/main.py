from astropy.table import Table

print(Table({"a": [1, 2]}).to_pandas().shape)
