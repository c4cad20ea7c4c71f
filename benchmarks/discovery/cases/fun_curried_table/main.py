import jsonschema_like
import numpy as np
import toolz
import tblib


def make(factor):
    return toolz.curry(lambda a, b: a * b)(factor)


TABLE = {}
for name, factor in (("double", 2), ("triple", 3)):
    TABLE[name] = make(factor)


def apply(name, value):
    return TABLE[name](value)


def other():
    return np.zeros(1), tblib, jsonschema_like
