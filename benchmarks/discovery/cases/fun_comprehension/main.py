import pandas as pd
from Bio.Seq import Seq


def seqs(texts):
    return {str(pd): [str(Seq(letter).complement()) for letter in pd] for pd in texts}


def unrelated():
    return pd.DataFrame()
