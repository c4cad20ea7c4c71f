import matplotlib

matplotlib.use("agg")
import pylab

print(pylab.arange(3).tolist())
