import functools

path = "more_itertools.chunked"
head, *rest = path.split(".")
chunked = functools.reduce(getattr, rest, __import__(head))
print(list(chunked(range(5), 2)))
