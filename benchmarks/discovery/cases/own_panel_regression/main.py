"""Difference in differences on a small panel, by formula, with clustered errors."""

import sys

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

FIRMS, YEARS = 12, range(2015, 2021)


def panel(effect=2.0, seed=11):
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(FIRMS), YEARS], names=["firm", "year"])
    data = pd.DataFrame(index=index).reset_index()
    data["treated"] = (data["firm"] < FIRMS // 2).astype(int)
    data["after"] = (data["year"] >= 2018).astype(int)
    noise = rng.normal(0, 0.3, len(data))
    data["y"] = 1 + 0.2 * data["firm"] + 0.5 * data["after"] + effect * data["treated"] * data["after"] + noise
    return data


def estimate(data):
    return smf.ols("y ~ treated * after + C(firm)", data=data).fit(
        cov_type="cluster", cov_kwds={"groups": data["firm"]}
    )


def main(out=sys.stdout):
    fit = estimate(panel())
    low, high = fit.conf_int().loc["treated:after"]
    print(f"effect {fit.params['treated:after']:.1f}", file=out)
    print("covers the truth" if low < 2.0 < high else "misses the truth", file=out)


if __name__ == "__main__":
    main()
