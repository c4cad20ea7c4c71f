"""Measure, limit, remember and predict what calls use."""
