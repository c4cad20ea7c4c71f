from sortedcontainers import SortedList


def ordered(values):
    return list(SortedList(values))
