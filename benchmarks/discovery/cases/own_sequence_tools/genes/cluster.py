from itertools import combinations

import networkx as nx
from Bio.Align import PairwiseAligner

_aligner = PairwiseAligner(mode="global", match_score=1, mismatch_score=0, open_gap_score=-0.5)


def identity(a, b):
    return _aligner.score(a.seq, b.seq) / max(len(a), len(b))


def by_identity(records, threshold):
    graph = nx.Graph()
    graph.add_nodes_from(record.id for record in records)
    graph.add_edges_from((a.id, b.id) for a, b in combinations(records, 2) if identity(a, b) >= threshold)
    return sorted(sorted(group) for group in nx.connected_components(graph))
