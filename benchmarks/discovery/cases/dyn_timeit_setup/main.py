import timeit

seconds = timeit.timeit("Point(1, 2) + Point(3, 4)", setup="from sympy import Point", number=2)
print(seconds > 0)
