import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit(np.array([[0.0], [1.0]]), [0.0, 2.0])
predict = model.predict


def unrelated():
    return plt.figure()
