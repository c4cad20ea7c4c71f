import shlex
import subprocess
import sys

command = f"{sys.executable} -m pygments -l python -f null"
print(subprocess.run(shlex.split(command), input="x = 1\n", capture_output=True, text=True, check=True).returncode)
