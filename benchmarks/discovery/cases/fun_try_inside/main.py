import numpy as np


def dump(value):
    try:
        import simplejson as json
    except ImportError:
        import json
    return json.dumps(value)


def unrelated():
    return np.ones(1)
