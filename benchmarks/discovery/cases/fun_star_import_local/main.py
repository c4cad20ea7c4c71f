from shortcuts import *
import seaborn


def mean(values):
    return float(n.mean(values))


def unrelated():
    return seaborn.color_palette()
