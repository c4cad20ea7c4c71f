"""One layer: what it holds, in one canonical form whose digest names it, and the file it travels in.

- `entries`: the entry list; `tarformat`: the bytes of a plain archive. Pure values.
- `placeholders`: folders that were written into files, taken out and put in.
- `writer`, `reader`: one layer file, written and read.
"""
