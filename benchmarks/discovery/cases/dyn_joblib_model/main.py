from pathlib import Path

import joblib

model = joblib.load(Path(__file__).with_name("scaler.joblib"))
print(model.transform([[3.0]]).tolist())
