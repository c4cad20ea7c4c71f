import scipy

assert scipy
