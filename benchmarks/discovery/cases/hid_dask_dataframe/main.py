import dask.dataframe as dd

if __name__ == "__main__":
    frame = dd.from_dict({"a": [1, 2, 3]}, npartitions=2)
    print(int(frame["a"].sum().compute(scheduler="synchronous")))
