import right


def go(n):
    return right.stop(n)


FACTOR = 3
