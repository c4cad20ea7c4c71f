import pandas as pd

def rows():
    return len(pd.DataFrame({"a": [1]}))


def report():
    return pd.DataFrame({"a": [1]}).to_markdown()
