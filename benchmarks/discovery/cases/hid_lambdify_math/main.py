import sympy as sp

x = sp.Symbol("x")
print(sp.lambdify(x, sp.cos(x), "math")(0))
