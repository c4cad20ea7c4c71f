"""Models that are fitted: a forest and a pipeline with a support vector machine, on data that come along."""

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

images, digits = load_digits(return_X_y=True)
for model in (RandomForestClassifier(20, random_state=0, n_jobs=2), make_pipeline(StandardScaler(), SVC())):
    model.fit(images[:900], digits[:900])
    print(type(model).__name__, model.score(images[900:], digits[900:]), model.predict(images[900:910]).tolist())
