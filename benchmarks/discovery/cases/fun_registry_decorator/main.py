import msgpack
import sympy
import yaml

CODECS = {}


def codec(name):
    def register(function):
        CODECS[name] = function
        return function

    return register


@codec("yaml")
def to_yaml(value):
    return yaml.safe_dump(value)


@codec("pack")
def to_pack(value):
    return msgpack.packb(value)


def convert(name, value):
    return CODECS[name](value)


def unrelated(text):
    return sympy.sympify(text)
