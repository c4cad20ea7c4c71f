import os
import runpy

here = os.path.dirname(os.path.abspath(__file__))
print(runpy.run_path(os.path.join(here, "steps", "first.py"))["result"])
