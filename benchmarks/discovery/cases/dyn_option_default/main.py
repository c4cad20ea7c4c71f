import argparse
import importlib

parser = argparse.ArgumentParser()
parser.add_argument("--container", default="sortedcontainers", help="module of the list")
options = parser.parse_args()
print(importlib.import_module(options.container).SortedList([3, 1, 2])[0])
