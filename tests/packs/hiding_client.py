"""A client that packs the functions of the example, loses its files, and then submits them.

Run as `hiding_client.py CODE HIDDEN...` in mount and network namespaces of its own. It prints a line for each function
whose result is that of a call here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from envpack import Store, pack
from envpack_executor import ContextExecutor

CODE, *HIDDEN = sys.argv[1:]
sys.path.insert(0, CODE)

import functions  # noqa: E402


def warm_up() -> str:
    return "warm"


def train() -> np.ndarray:
    """Save a classifier where the set-up looks for it, and return images that it has not seen."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    images, digits = load_digits(return_X_y=True)
    functions.MODEL.write_bytes(
        pickle.dumps(RandomForestClassifier(20, random_state=0).fit(images[:900], digits[:900]))
    )
    return images[900:932]


def hide_files() -> None:
    """Put empty folders over the code and all that is named; the model is data, and the only file that stays."""
    model = functions.MODEL.read_bytes()
    for folder in (CODE, *HIDDEN):
        if not os.path.isdir(folder):
            continue  # lies in one that is hidden
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        assert os.listdir(folder) == [], folder
    functions.MODEL.write_bytes(model)


def main(folder: Path) -> None:
    images = train()
    store = Store(folder / "packing")
    digits = functions.classify(images, **functions.load_classifier(functions.MODEL))
    calls = {"classify": (images,), "spectrum": (images,), "report": (digits,)}
    expected = {"classify": digits, "spectrum": functions.spectrum(images), "report": functions.report(digits)}
    for name in calls:
        pack(f"{CODE}/functions.py:{name}", store=store, output=folder / f"{name}.tar.zst")
    # The client imports some of its own modules late: one call of each kind before its files disappear.
    pack(warm_up, store=store, output=folder / "warm.tar.zst")
    for environment in (None, folder / "warm.tar.zst"):
        with ContextExecutor(1, environment=environment, store=folder / "node", history=None) as executor:
            assert executor.submit(warm_up).result() == "warm"
    hide_files()
    for name, arguments in calls.items():
        environment = folder / f"{name}.tar.zst"
        with ContextExecutor(1, environment=environment, store=folder / "node", history=None) as executor:
            result = executor.submit(getattr(functions, name), *arguments).result()
        print(f"{name}: {'the same' if result == expected[name] else result}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
