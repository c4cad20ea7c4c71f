import geometry

print(geometry.ordered([3, 1, 2]))
