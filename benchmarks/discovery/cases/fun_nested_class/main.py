import click
import pandas


def base():
    return click.ParamType


def build(text):
    class Number(base()):
        name = "number"

        def convert(self, value, param, ctx):
            return int(value)

    return Number().convert(text, None, None)


def unrelated():
    return pandas.NA
