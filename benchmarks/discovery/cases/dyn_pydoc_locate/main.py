import pydoc

Mapping = pydoc.locate("sortedcontainers.SortedDict")
print(Mapping(b=1, a=2).keys()[0])
