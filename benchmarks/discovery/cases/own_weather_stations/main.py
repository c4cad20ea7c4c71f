"""Readings of stations in local time become a partitioned dataset; the warmest hour is looked up."""

import tempfile
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytz

STATIONS = {"OSL": "Europe/Oslo", "NRT": "Asia/Tokyo"}


def readings():
    rows = {"station": [], "at": [], "celsius": []}
    for number, (station, zone) in enumerate(STATIONS.items()):
        start = pytz.timezone(zone).localize(datetime(2024, 6, 1))
        for hour in range(24):
            rows["station"].append(station)
            rows["at"].append((start + timedelta(hours=hour)).astimezone(pytz.utc))
            rows["celsius"].append(10.0 + number + 8 * (1 - abs(hour - 14) / 14))
    return pa.table(rows)


def store(table, folder):
    ds.write_dataset(table, folder, format="parquet", partitioning=["station"], partitioning_flavor="hive")


def warmest(folder):
    data = ds.dataset(folder, partitioning="hive").to_table()
    highest = pc.max(data["celsius"])
    row = data.filter(pc.equal(data["celsius"], highest)).slice(0, 1)
    return row.to_pylist()[0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        store(readings(), folder)
        found = warmest(folder)
        print(found["station"], found["celsius"])
        print(ds.dataset(folder, partitioning="hive").to_table().to_pandas()["celsius"].count())
