import numpy as np
import mpmath
import pandas as pd


class Circle:
    def __init__(self, radius):
        self.radius = radius

    @property
    def area(self):
        return mpmath.pi * self.radius**2

    @classmethod
    def unit(cls):
        return cls(1)


def area(radius):
    return round(float(Circle(radius).area), 6)


def unrelated():
    return np.array([]), pd.NA
