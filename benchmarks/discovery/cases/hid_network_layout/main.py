import networkx as nx

print(len(nx.kamada_kawai_layout(nx.cycle_graph(4))))
