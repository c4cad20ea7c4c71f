import logging
import logging.config
from pathlib import Path

logging.config.fileConfig(Path(__file__).with_name("logging.ini"))
print(type(logging.getLogger().handlers[0]).__name__)
