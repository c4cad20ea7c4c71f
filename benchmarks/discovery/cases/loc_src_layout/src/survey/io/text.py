from . import pieces


def read(text):
    return pieces(text)
