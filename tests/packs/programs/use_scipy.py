"""Optimisation, integration, a sparse solve and statistics."""

import numpy as np
from scipy import integrate, optimize, sparse, stats
from scipy.sparse.linalg import spsolve

least = optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8], method="BFGS")
print("minimum", np.round(least.x, 4).tolist(), bool(least.success))
print("area", round(integrate.quad(lambda x: np.exp(-(x**2)), -np.inf, np.inf)[0], 8))
second = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(50, 50), format="csc")
print("solution", np.round(spsolve(second, np.ones(50))[:4], 8).tolist())
print("normal", round(float(stats.norm.cdf(1.96)), 8))
