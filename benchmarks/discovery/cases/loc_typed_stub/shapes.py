from toolz import do


def area(side):
    return do(float, side * side)
