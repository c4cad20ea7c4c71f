"""Three functions of one scientist: each needs other packages, and none needs them all.

`envpack analyze examples/inference/functions.py:classify` says what one of them needs, and why.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft
from spelling import spell

from envpack_executor import task

MODEL = Path(__file__).with_name("digits.pkl")


def load_classifier(path: Path) -> dict[str, Any]:
    """Set up the context of `classify`: once in each worker process, where the result then stays."""
    from sklearn.ensemble import RandomForestClassifier

    with path.open("rb") as file:
        classifier = pickle.load(file)
    if not isinstance(classifier, RandomForestClassifier):
        raise TypeError(f"{path} holds a {type(classifier).__name__}, expected a RandomForestClassifier")
    return {"classifier": classifier}


@task(context=(load_classifier, MODEL), category="classify")
def classify(images: np.ndarray, classifier: Any) -> list[int]:
    """Needs scikit-learn, by way of what the set-up leaves behind."""
    return [int(digit) for digit in classifier.predict(images)]


@task(category="spectrum")
def spectrum(images: np.ndarray) -> list[float]:
    """Needs numpy and scipy alone."""
    transformed = fft.dctn(images.reshape(-1, 8, 8), axes=(1, 2))
    return [float(value) for value in np.abs(transformed).mean(axis=(1, 2))]


@task(category="report")
def report(digits: list[int]) -> str:
    """Needs no package, but a module of our own."""
    return ", ".join(spell(digit) for digit in digits)
