from sortedcontainers import SortedList


def centre(values):
    return SortedList(values)[len(values) // 2]
