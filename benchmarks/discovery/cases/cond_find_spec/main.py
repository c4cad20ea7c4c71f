import importlib.util

import toolz

if importlib.util.find_spec("numexpr") is not None:
    import numexpr

    total = int(numexpr.evaluate("1 + 1"))
else:
    total = 1 + 1
print(toolz.identity(total))
