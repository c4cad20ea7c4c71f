import numexpr
import yaml
import toolz


class Registered(type):
    def __new__(cls, name, bases, space):
        space["evaluate"] = lambda self, x: int(numexpr.evaluate("x * 2"))
        return super().__new__(cls, name, bases, space)


class Model(metaclass=Registered):
    pass


def run(x):
    return Model().evaluate(x)


def other(text):
    return yaml.safe_load(text), toolz.first([1])
