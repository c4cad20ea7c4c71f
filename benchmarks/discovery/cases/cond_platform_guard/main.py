import os
import sys

if sys.platform == "win32":
    import colorama

    colorama.init()
if os.name == "nt":
    import pandas
from pygments.token import Token

print(Token.Name)
