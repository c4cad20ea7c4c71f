import io

import pandas as pd


class Report:
    def __init__(self, frame):
        self.frame = frame

    def to_excel(self, target):
        self.frame.to_csv(target, sep=";", index=False)


buffer = io.StringIO()
Report(pd.DataFrame({"a": [1]})).to_excel(buffer)
print(buffer.getvalue().strip())
