import jaraco.functools
from jaraco import context

print(jaraco.functools.compose(str, abs)(-1), context.suppress.__name__)
