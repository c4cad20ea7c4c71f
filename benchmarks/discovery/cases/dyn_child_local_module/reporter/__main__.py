import sys

from mpmath import mp

mp.dps = 12
print(mp.sqrt(int(sys.argv[1])))
