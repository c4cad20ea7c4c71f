import toolz


def answer():
    return toolz.get(1, [0, 42])
