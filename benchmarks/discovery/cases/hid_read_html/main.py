import io

import pandas as pd

PAGE = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
print(pd.read_html(io.StringIO(PAGE), flavor="lxml")[0].shape)
