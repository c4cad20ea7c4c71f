from toolz import *
from sympy import Symbol


def pick(values):
    return second(values)


def unrelated():
    return Symbol("x")
