"""Command line of the package `genes`."""

import sys

from genes import cluster, fasta
from genes.report import show

TEXT = """>one
ATGGCCATTGTAATGGGCCGCTGA
>two
ATGGCCATTGTAATGGGACGCTGA
>three
ATGCCCCCCCCCATTCCCTGCTGA
"""


def main(argv):
    records = list(fasta.parse(TEXT))
    groups = cluster.by_identity(records, threshold=float(argv[0]) if argv else 0.8)
    show(records, groups)


if __name__ == "__main__":
    main(sys.argv[1:])
