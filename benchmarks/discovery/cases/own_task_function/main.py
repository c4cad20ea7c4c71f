"""Random walks on a lattice: `simulate` is what is sent to the nodes, the rest stays here."""

import argparse
import json
from functools import lru_cache

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import expm_multiply
from tabulate import tabulate

STEPS = np.linspace(0.0, 1.0, 4)


def laplacian(n):
    main = np.full(n, -2.0)
    side = np.ones(n - 1)
    return sparse.diags([side, main, side], [-1, 0, 1], format="csr")


def normalize(values):
    total = values.sum()
    return values / total if total else values


def simulate(n: int, rate: float) -> list:
    start = np.zeros(n)
    start[n // 2] = 1.0
    end = expm_multiply(rate * laplacian(n), start)
    return [round(float(value), 4) for value in normalize(end)]


def spread(values):
    return float(pd.Series(values).std())


def topology(n):
    return nx.grid_2d_graph(n, n)


def draw(results, target):
    figure, axes = plt.subplots()
    for values in results:
        axes.plot(values)
    figure.savefig(target)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[5, 7])
    options = parser.parse_args()
    results = [simulate(n, rate) for n in options.sizes for rate in (0.1, 0.5)]
    print(tabulate([[spread(values)] for values in results]))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
