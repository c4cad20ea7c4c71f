"""Who is cited by whom is cited: rank papers, find communities, write a summary."""

import io
import re
from collections import Counter, defaultdict

import networkx as nx
import yaml
from dateutil.parser import parse as parse_date

RECORDS = """
p1 | 2001-03-04 | On graphs | -
p2 | 2003-01-20 | More on graphs | p1
p3 | 2004-11-02 | Trees | p1, p2
p4 | 2010-05-06 | Forests | p3
p5 | 2011-07-08 | Woods | p3, p4
p6 | 2012-09-10 | Jungles | p4, p5, p1
"""


def read_records(text):
    for line in io.StringIO(text):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 4:
            key, date, title, cites = fields
            yield key, parse_date(date), title, re.findall(r"p\d+", cites)


def build(records):
    graph = nx.DiGraph()
    for key, date, title, cites in records:
        graph.add_node(key, year=date.year, title=title)
        graph.add_edges_from((key, other) for other in cites)
    return graph


def summarize(graph):
    rank = nx.pagerank(graph, alpha=0.85)
    best = sorted(rank, key=lambda key: (-round(rank[key], 6), key))[:3]
    groups = nx.community.greedy_modularity_communities(graph.to_undirected())
    decades = Counter(10 * (data["year"] // 10) for _, data in graph.nodes(data=True))
    words = defaultdict(list)
    for key, data in graph.nodes(data=True):
        for word in data["title"].lower().split():
            words[word].append(key)
    return {
        "papers": graph.number_of_nodes(),
        "acyclic": nx.is_directed_acyclic_graph(graph),
        "best": best,
        "communities": len(groups),
        "decades": dict(sorted(decades.items())),
        "shared words": sorted(word for word, keys in words.items() if len(keys) > 1),
    }


if __name__ == "__main__":
    print(yaml.safe_dump(summarize(build(read_records(RECORDS))), sort_keys=False))
