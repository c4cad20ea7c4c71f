import numexpr


def size(side):
    return int(numexpr.evaluate("side * side"))
