import pandas as pd
import seaborn as sns

grid = sns.clustermap(pd.DataFrame([[0.0, 1.0], [1.0, 0.5], [0.2, 0.9]]))
print(grid.data2d.shape)
