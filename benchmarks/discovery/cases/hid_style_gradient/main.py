import pandas as pd

frame = pd.DataFrame({"a": [1.0, 2.0]})
print("background-color" in frame.style.background_gradient(cmap="viridis").to_html())
