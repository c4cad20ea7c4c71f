import importlib
import json
from pathlib import Path

wanted = json.loads(Path(__file__).with_name("plugins.json").read_text())
for name in wanted["plugins"]:
    print(importlib.import_module(name).__name__)
