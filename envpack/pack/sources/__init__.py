"""What goes into layers: the files of distributions, of conda packages and of local code, as they lie on this machine.

- `record`, `distributions`: what was installed with a list of its files; `trees`: what has none; `conda`: prefixes.
- `bytecode`, `scripts`: what is made from them so that it works elsewhere.
- `elf`, `libraries`: whether the shared libraries that machine code asks for are there.
"""
