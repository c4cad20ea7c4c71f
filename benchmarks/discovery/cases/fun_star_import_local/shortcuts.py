import numpy as n
