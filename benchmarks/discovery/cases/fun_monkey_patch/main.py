import pandas as pd
import sympy


class Engine:
    def start(self, n):
        return n


def factors(self, n):
    return sympy.factorint(n)


Engine.start = factors


def run(n):
    return Engine().start(n)


def unrelated():
    return pd.NA
