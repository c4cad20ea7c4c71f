"""Predictors: from the usage of the calls so far to the allocation of the next one. Pure and deterministic."""
