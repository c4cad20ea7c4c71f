import more_itertools
import pandas as frame


def size(values):
    if (frame := more_itertools.ilen(values)) > 1:
        return frame
    return 0
