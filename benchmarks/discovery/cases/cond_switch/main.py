import os

from more_itertools import last

if os.environ.get("USE_PLOTLY"):
    import plotly

    print(plotly.__version__)
print(last([1, 2]))
