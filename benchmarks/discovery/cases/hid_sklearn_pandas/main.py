from sklearn.preprocessing import StandardScaler

scaler = StandardScaler().set_output(transform="pandas")
print(type(scaler.fit_transform([[0.0], [2.0]])).__name__)
