import numpy as np
import seaborn

from tools.trace import traced


@traced("area")
def area(r):
    return 3 * r * r


def other():
    return np.zeros(1), seaborn
