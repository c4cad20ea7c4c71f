shapes = __import__("skimage.draw", globals(), locals(), ["disk"], 0)
rows, columns = shapes.disk((4, 4), 2)
print(len(rows) == len(columns))
