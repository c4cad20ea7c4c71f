import importlib

PROJECT = "sympy"
PART = "ntheory"

theory = importlib.import_module("%s.%s" % (PROJECT, PART))
print(theory.isprime(97))
