import numpy
import pandas
import scipy.linalg

xp = numpy
backend = xp
la = scipy.linalg if pandas.__name__ == "polars" else backend.linalg


def norm(vector):
    return float(la.norm(vector))
