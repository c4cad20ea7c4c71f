import seaborn as sns


def heat(matrix):
    return sns.heatmap(matrix)
