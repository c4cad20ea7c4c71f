import io

import pandas as pd

TEXT = "<rows><row><a>1</a></row><row><a>2</a></row></rows>"
print(pd.read_xml(io.StringIO(TEXT), parser="etree")["a"].sum())
