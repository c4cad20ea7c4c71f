import subprocess
import sys

command = [sys.executable, "-m", "pygments", "-l", "python", "-f", "html"]
outcome = subprocess.run(command, input="x = 1\n", capture_output=True, text=True, check=True)
print(outcome.stdout.startswith("<div"))
