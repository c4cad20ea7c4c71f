import wrapt


@wrapt.when_imported("mpmath")
def loaded(module):
    print("loaded", module.__name__)


@wrapt.when_imported("bokeh")
def never(module):
    print("never")


import mpmath

print(mpmath.mpf(2))
