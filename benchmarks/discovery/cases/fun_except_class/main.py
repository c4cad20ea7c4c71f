import numpy as np
import requests


def fetch(number):
    try:
        return number + 1
    except requests.RequestException:
        return None


def unrelated():
    return np.zeros(1)
