"""
Who matters in a small company
==============================

Centralities of several kinds, communities, and a layout.
"""

import networkx as nx
from networkx.algorithms import bipartite, community

people = nx.karate_club_graph()

# Centralities
# ------------
ranks = {
    "degree": nx.degree_centrality(people),
    "between": nx.betweenness_centrality(people, k=10, seed=1),
    "eigen": nx.eigenvector_centrality_numpy(people),
}
for name, values in ranks.items():
    print(name, max(values, key=values.get) in {0, 33})

# Communities
# -----------
parts = community.greedy_modularity_communities(people)
print(len(parts))


def fiedler(graph):
    """Return the algebraic connectivity."""
    return nx.algebraic_connectivity(graph, method="lanczos", seed=2)


print(round(fiedler(nx.path_graph(6)), 3))

# Two kinds of nodes
# ------------------
clubs = bipartite.random_graph(4, 5, 0.6, seed=3)
matrix = bipartite.biadjacency_matrix(clubs, row_order=range(4))
print(matrix.shape)

# Layout
# ------
places = nx.kamada_kawai_layout(nx.cycle_graph(5))
print(len(places))
