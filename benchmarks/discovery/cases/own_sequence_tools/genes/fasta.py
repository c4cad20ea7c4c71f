from io import StringIO

from Bio import SeqIO


def parse(text):
    for record in SeqIO.parse(StringIO(text), "fasta"):
        record.annotations["protein"] = str(record.seq.translate(to_stop=True))
        yield record
