import pandas

try:
    from sortedcontainers import SortedList

    HAS_SORTED = True
except ImportError:
    HAS_SORTED = False
import jinja2


def pick(values):
    if HAS_SORTED:
        return SortedList(values)[0]
    return sorted(values)[0]


def other():
    return pandas, jinja2
