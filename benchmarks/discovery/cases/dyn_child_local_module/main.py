import subprocess
import sys
from pathlib import Path

here = Path(__file__).parent
outcome = subprocess.run(
    [sys.executable, "-m", "reporter", "7"], cwd=here, capture_output=True, text=True, check=True
)
print(outcome.stdout.strip())
