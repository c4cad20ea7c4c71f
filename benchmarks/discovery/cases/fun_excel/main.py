import io

import pandas as pd
import requests


def round_trip(values):
    buffer = io.BytesIO()
    pd.DataFrame({"v": values}).to_excel(buffer, index=False)
    return pd.read_excel(buffer)["v"].tolist()


def download(url):
    return requests.get(url, timeout=5).content
