"""Files that hold a whole environment.

- `packfile`: the format of this project, an index and then the layer files as they are.
- `plainfile`: a `.tar.gz` that needs nothing but `tar` and a shell; `activation` is what it has for them besides the
  layers, `gzipstream` its compression.
- `foreign`: archives of other tools, of which only the files are taken.
- `exporting`: an environment into a file of either kind; `opening`: such a file, told by what it begins with
  (`magic`).
"""
