"""Fit logistic growth to optical densities of a plate and report doubling times."""

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

WELLS = {"A1": (0.8, 0.9, 4.0), "A2": (1.1, 0.6, 5.5), "B1": (0.9, 0.75, 3.0)}


@dataclass
class Fit:
    well: str
    capacity: float
    rate: float
    lag: float

    @property
    def doubling_h(self):
        return math.log(2) / self.rate


def logistic(t, capacity, rate, lag):
    return capacity / (1 + np.exp(-rate * (t - lag)))


def simulate(seed):
    rng = np.random.default_rng(seed)
    hours = np.arange(0, 16, 0.5)
    columns = {
        well: logistic(hours, *parameters) + rng.normal(0, 0.002, hours.size) for well, parameters in WELLS.items()
    }
    return pd.DataFrame(columns, index=pd.Index(hours, name="hour"))


def fit_plate(plate):
    for well, values in plate.items():
        guess = (values.max(), 0.5, plate.index[values.to_numpy().argmax() // 2])
        popt, _ = curve_fit(logistic, plate.index.to_numpy(), values.to_numpy(), p0=guess, maxfev=5000)
        yield Fit(well, *popt)


def draw(plate, fits, target):
    figure, axes = plt.subplots(figsize=(5, 3))
    for fit in fits:
        axes.plot(plate.index, plate[fit.well], ".", ms=3, label=fit.well)
        axes.plot(plate.index, logistic(plate.index.to_numpy(), fit.capacity, fit.rate, fit.lag), lw=1)
    axes.set_xlabel("h")
    axes.set_ylabel("OD600")
    axes.legend(frameon=False)
    figure.savefig(target, dpi=80)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    plate = simulate(options.seed)
    fits = list(fit_plate(plate))
    with tempfile.TemporaryDirectory() as folder:
        draw(plate, fits, Path(folder) / "plate.png")
        pd.DataFrame([vars(fit) for fit in fits]).to_csv(Path(folder) / "fits.csv", index=False)
        for file in sorted(Path(folder).iterdir()):
            print(file.name, file.stat().st_size > 100)
    for fit in fits:
        print(f"{fit.well}: {fit.doubling_h:.1f} h")


if __name__ == "__main__":
    main()
