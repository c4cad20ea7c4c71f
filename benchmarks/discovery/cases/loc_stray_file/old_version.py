import pandas
import plotly

print(pandas, plotly)
