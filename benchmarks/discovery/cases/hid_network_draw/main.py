import networkx

draw = networkx.draw_networkx_edges
graph = networkx.path_graph(3)
print(draw(graph, {0: (0, 0), 1: (1, 0), 2: (2, 1)}) is not None)
