from patsy import dmatrix

design = dmatrix("x", {"x": [1.0, 2.0]}, return_type="dataframe")
print(list(design.columns))
