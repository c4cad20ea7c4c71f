import pandas as pd
from pages.text import plain


def clean(html):
    return plain(html)


def unrelated():
    return pd.DataFrame()
