import yaml

DOCUMENT = """
transform: !!python/name:more_itertools.flatten
"""
flatten = yaml.unsafe_load(DOCUMENT)["transform"]
print(list(flatten([[1], [2, 3]])))
