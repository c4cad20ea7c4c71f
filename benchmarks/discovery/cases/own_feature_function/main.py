"""Features of a text for a classifier that is trained elsewhere."""

import re

import numpy as np
import pandas as pd
import sklearn.ensemble
import statsmodels.api as sm
from words import Stemmer

EXTRACTORS = {}


def extractor(function):
    EXTRACTORS[function.__name__] = function
    return function


@extractor
def length(tokens):
    return len(tokens)


@extractor
def variety(tokens):
    from toolz import countby

    return len(countby(str.lower, tokens)) / len(tokens)


@extractor
def deviation(tokens):
    return float(np.std([len(token) for token in tokens]))


class Tokens:
    pattern = re.compile(r"\w+")

    def __init__(self, text):
        self.text = text

    @property
    def stems(self):
        return [Stemmer().stem(token) for token in self.pattern.findall(self.text)]


def features(text):
    tokens = Tokens(text).stems
    return {name: round(extract(tokens), 3) for name, extract in sorted(EXTRACTORS.items())}


def train(frame: pd.DataFrame):
    forest = sklearn.ensemble.RandomForestClassifier()
    return forest.fit(frame.drop(columns="y"), frame["y"]), sm.OLS(frame["y"], frame.drop(columns="y")).fit()
