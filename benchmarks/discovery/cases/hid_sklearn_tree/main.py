from sklearn.tree import DecisionTreeClassifier, plot_tree

tree = DecisionTreeClassifier(random_state=0).fit([[0], [1]], [0, 1])
print(len(plot_tree(tree)))
