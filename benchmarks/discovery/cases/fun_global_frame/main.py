import numpy as np
import pandas as pd
import requests

FRAME = pd.DataFrame({"a": [1, 2]})


def page():
    return FRAME.style.set_uuid("x").to_html()[:6]


def other():
    return np.zeros(1), requests.Session
