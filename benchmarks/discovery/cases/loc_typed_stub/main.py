import shapes

print(shapes.area(2))
