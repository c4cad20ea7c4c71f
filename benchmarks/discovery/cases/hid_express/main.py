import plotly.express as px

print(len(px.line(x=[1, 2], y=[3, 4]).data))
