import tempfile
from pathlib import Path

import pandas as pd

with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "report.xlsx"
    with pd.ExcelWriter(target) as writer:
        pd.DataFrame({"a": [1]}).to_excel(writer, sheet_name="one")
        pd.DataFrame({"b": [2]}).to_excel(writer, sheet_name="two")
    print(sorted(pd.read_excel(target, sheet_name=None)))
