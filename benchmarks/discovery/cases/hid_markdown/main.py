import pandas as pd


def summary(rows):
    frame = pd.DataFrame(rows, columns=["k", "v"])
    return frame.groupby("k").sum()


if __name__ == "__main__":
    print(summary([("a", 1), ("a", 2)]).to_markdown())
