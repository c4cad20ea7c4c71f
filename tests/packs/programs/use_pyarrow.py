"""An arrow table: computed on, written as parquet and IPC stream, filtered as a dataset."""

import tempfile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

table = pa.table({"site": ["a", "b", "a", "c"], "value": [1.0, 2.5, 4.0, None]})
print("sum", pc.sum(table["value"]).as_py())
print("groups", table.group_by("site").aggregate([("value", "mean")]).sort_by("site").to_pylist())
with tempfile.TemporaryDirectory() as folder:
    pq.write_table(table, f"{folder}/part.parquet", compression="zstd")
    print("filtered", ds.dataset(folder).to_table(filter=pc.field("site") == "a").to_pylist())
sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
print("stream", pa.ipc.open_stream(sink.getvalue()).read_all().equals(table))
