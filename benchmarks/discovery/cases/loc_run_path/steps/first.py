from mpmath import binomial

result = int(binomial(5, 2))
