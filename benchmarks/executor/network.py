"""A residual network with 18 layers of weights, as wide as ResNet-18, in plain torch; and the calls that use it.

Written for `context_reuse.py`: what is measured there is how often it is imported, made and loaded.
"""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch import nn

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
CLASSES = 1000
SIDE = 64


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        is_equal = before == after and stride == 1
        around = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.around = nn.Identity() if is_equal else around

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(images) + self.around(images))


def network() -> nn.Module:
    """Return the network with weights as they are made."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    before = 64
    for after, stride in STAGES:
        layers += [Block(before, after, stride), Block(after, after, 1)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))


def write_weights(file: str) -> None:
    """Write weights to a file; the same ones each time."""
    torch.manual_seed(7)
    torch.save(network().state_dict(), file)


def load(weights: str, images: int, marks: str | None = None) -> dict[str, Any]:
    """Set up what calls use; with a folder for marks, leave one that says so.

    The network runs once: what torch works out at the first use is part of a set-up that is worth keeping.
    """
    torch.set_grad_enabled(False)
    model = network()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()(torch.zeros(images, 3, SIDE, SIDE))
    if marks is not None:
        with open(os.path.join(marks, f"{os.getpid()}-{time.monotonic_ns()}"), "xb"):
            pass
    return {"model": model}


def infer(seed: int, images: int, model: nn.Module) -> tuple[int, float]:
    """Classify images made from a seed; return a checksum, and the seconds that the network took."""
    batch = torch.rand(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        started_s = time.perf_counter()
        classes = model(batch).argmax(1)
        inference_s = time.perf_counter() - started_s
    return int(classes.sum()), inference_s
