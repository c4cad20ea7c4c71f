import toolz


def count(text):
    return toolz.count(text.split())
