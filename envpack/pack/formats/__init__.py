"""Files that hold a whole environment.

- `packfile`: the format of this project, an index and then the layer files as they are.
"""
