import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if sys.version_info < (3, 8):
    from importlib_metadata import version
else:
    from importlib.metadata import version

print(tomllib.loads("a = 1")["a"], callable(version))
