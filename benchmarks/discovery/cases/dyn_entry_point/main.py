import io
import sys
from importlib.metadata import entry_points

(script,) = entry_points(group="console_scripts", name="tabulate")
sys.argv = ["tabulate", "-f", "plain"]
sys.stdin = io.StringIO("a b\n1 2\n")
script.load()()
