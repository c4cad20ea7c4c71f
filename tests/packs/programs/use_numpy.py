"""Linear algebra: a least squares fit, eigenvalues and a spectrum."""

import numpy as np

generator = np.random.default_rng(3)
points = generator.normal(size=(200, 6))
weights = np.arange(1.0, 7.0)
fitted, *_ = np.linalg.lstsq(points, points @ weights, rcond=None)
symmetric = points.T @ points
print("weights", np.round(fitted, 8).tolist())
print("eigenvalues", np.round(np.linalg.eigvalsh(symmetric), 8).tolist())
print("determinant", round(float(np.linalg.slogdet(symmetric)[1]), 8))
print("spectrum", np.round(np.abs(np.fft.rfft(points[:, 0]))[:5], 8).tolist())
