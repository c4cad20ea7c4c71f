import hashlib

import dask.array as da
import numpy as np
import pandas as pd
import scipy.optimize
import sklearn.cluster


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def analyse(frame: pd.DataFrame):
    return scipy.optimize.minimize(np.sum, da.ones(3)), sklearn.cluster.KMeans, frame
