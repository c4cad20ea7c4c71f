try:
    import numpy as np

    HAVE_NUMPY = True
except ImportError:
    HAVE_NUMPY = False


def total(values):
    if HAVE_NUMPY:
        return int(np.sum(values))
    return sum(values)


print(total([1, 2, 3]))
