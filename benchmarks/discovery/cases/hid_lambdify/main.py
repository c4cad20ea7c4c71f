from sympy import lambdify, sin, symbols

x = symbols("x")
function = lambdify(x, sin(x) + 1, modules="numpy")
print(float(function(0)))
