"""Files that hold a whole environment.

- `packfile`: the format of this project, an index and then the layer files as they are.
- `plainfile`: a `.tar.gz` that needs nothing but `tar` and a shell; `activation` is what it has for them besides the
  layers, `gzipstream` its compression.
- `exporting`: an environment into a file of either kind; `opening`: such a file, told by what it begins with.
"""
