import io

from pandas import read_html

PAGE = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
print(read_html(io.StringIO(PAGE), flavor="bs4")[0].shape)
