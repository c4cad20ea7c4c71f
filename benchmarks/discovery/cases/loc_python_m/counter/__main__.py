import sys

from .core import count

print(count(int(sys.argv[1])))
