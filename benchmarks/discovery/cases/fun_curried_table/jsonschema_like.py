import plotly
