import pickle
from pathlib import Path

with Path(__file__).with_name("graph.pickle").open("rb") as file:
    graph = pickle.load(file)
print(graph.number_of_edges())
