"""Sales of a chain of shops, from a data base to a workbook.

The data base lives in memory; nothing is fetched.
"""

import io
import sqlite3
from datetime import date, timedelta

import pandas as pd


def fill(connection):
    """Write some sales."""
    start = date(2024, 1, 1)
    rows = [
        (str(start + timedelta(days=day)), shop, 10.0 * (day % 3) + len(shop))
        for day in range(12)
        for shop in ("harbour", "market", "station")
    ]
    frame = pd.DataFrame(rows, columns=["day", "shop", "sales"])
    frame.to_sql("sales", connection, index=False)


def weekly(connection):
    frame = pd.read_sql("select * from sales where sales > 6", connection, parse_dates=["day"])
    return frame.pivot_table(index=pd.Grouper(key="day", freq="W"), columns="shop", values="sales", aggfunc="sum")


def workbook(table):
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer) as writer:
        table.to_excel(writer, sheet_name="weekly")
        table.describe().to_excel(writer, sheet_name="summary")
    return buffer


def page(table):
    return table.style.format("{:.1f}").highlight_max(axis=0).to_html()


def main():
    connection = sqlite3.connect(":memory:")
    fill(connection)
    table = weekly(connection)
    print(table.to_markdown())
    again = pd.read_excel(workbook(table), sheet_name=None, index_col=0)
    print(list(again))
    print("<table" in page(table))
    connection.close()


if __name__ == "__main__":
    main()
