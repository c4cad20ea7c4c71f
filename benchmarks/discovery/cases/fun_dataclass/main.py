from dataclasses import dataclass, field

import matplotlib
import networkx as nx


@dataclass
class Model:
    text: str
    graph: nx.Graph = field(default_factory=nx.Graph)

    def derivative(self):
        import sympy

        return str(sympy.diff(sympy.sympify(self.text)))


def describe(text):
    return Model(text).derivative()


def unrelated():
    return matplotlib.__name__
