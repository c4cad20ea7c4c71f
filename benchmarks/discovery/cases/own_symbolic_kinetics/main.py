"""Michaelis-Menten kinetics: derive, compile, integrate, check mass balance."""

import sympy as sp
from scipy.integrate import solve_ivp

S, E, C, P = SPECIES = sp.symbols("S E C P", nonnegative=True)
k1, k2, k3 = RATES = sp.symbols("k1 k2 k3", positive=True)

REACTIONS = [
    (k1 * S * E, {S: -1, E: -1, C: 1}),
    (k2 * C, {S: 1, E: 1, C: -1}),
    (k3 * C, {E: 1, C: -1, P: 1}),
]


def rate_equations():
    change = dict.fromkeys(SPECIES, sp.Integer(0))
    for speed, effect in REACTIONS:
        for species, amount in effect.items():
            change[species] += amount * speed
    return [sp.simplify(change[species]) for species in SPECIES]


def steady_state(equations):
    total = sp.Symbol("E0", positive=True)
    complex_equation = equations[2].subs(E, total - C)
    (solution,) = sp.solve(complex_equation, C)
    return sp.factor(k3 * solution)


def integrate(equations, rates, start, until):
    right = sp.lambdify((SPECIES, RATES), equations)
    return solve_ivp(lambda t, y: right(y, rates), (0, until), start, rtol=1e-8, atol=1e-10, method="LSODA")


def main():
    equations = rate_equations()
    print(sp.simplify(sum(equations[i] for i in (0, 2, 3))))
    print(steady_state(equations).has(S))
    result = integrate(equations, (2.0, 1.0, 1.5), (1.0, 0.2, 0.0, 0.0), 60.0)
    s, e, c, p = result.y[:, -1]
    print(round(float(s + c + p), 4), round(float(e + c), 4), result.success)


if __name__ == "__main__":
    main()
