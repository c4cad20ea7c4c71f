import numpy as np
from toolz import compose


def double(x):
    import simplejson

    return simplejson.loads(simplejson.dumps(x * 2))


pipeline = compose(double, int, str.strip)


def unrelated():
    return np.zeros(1)
