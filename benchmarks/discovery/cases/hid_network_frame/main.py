from networkx import cycle_graph, to_pandas_edgelist

print(to_pandas_edgelist(cycle_graph(3)).shape)
