import pkgutil

accumulate = pkgutil.resolve_name("toolz.itertoolz:accumulate")
print(list(accumulate(max, [1, 3, 2])))
