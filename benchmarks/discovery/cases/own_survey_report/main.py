"""Monthly survey report in three formats."""

import os
import sys
import tempfile

import pandas as pd

ROWS = [
    ("north", "2024-01-15", 4, "good"),
    ("north", "2024-02-15", 5, "good"),
    ("south", "2024-01-20", 2, "poor"),
    ("south", "2024-02-20", 3, None),
]


def load():
    frame = pd.DataFrame(ROWS, columns=["region", "day", "score", "remark"])
    frame["day"] = pd.to_datetime(frame["day"])
    return frame


def by_region(frame):
    return (
        frame.assign(month=frame["day"].dt.strftime("%Y-%m"))
        .pivot_table(index="region", columns="month", values="score", aggfunc="mean")
        .round(1)
    )


class Report:
    """Writes what `by_region` makes."""

    def __init__(self, folder):
        self.folder = folder
        self.written = []

    def path(self, name):
        self.written.append(name)
        return os.path.join(self.folder, name)

    def workbook(self, sheets):
        with pd.ExcelWriter(self.path("survey.xlsx")) as writer:
            for name, sheet in sheets.items():
                sheet.to_excel(writer, sheet_name=name)

    def page(self, table):
        html = table.style.format("{:.1f}").highlight_max(color="gold").to_html()
        with open(self.path("survey.html"), "w") as file:
            file.write(html)

    def text(self, table):
        with open(self.path("survey.md"), "w") as file:
            table.to_markdown(file)


def main(argv):
    frame = load()
    table = by_region(frame)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(folder)
        report.workbook({"raw": frame.set_index("region"), "means": table})
        report.page(table)
        report.text(table)
        for name in report.written:
            print(name, os.path.getsize(os.path.join(folder, name)) > 50)
        with open(os.path.join(folder, "survey.md")) as file:
            print(file.read())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
