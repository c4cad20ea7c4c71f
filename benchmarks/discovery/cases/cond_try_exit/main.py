import sys

try:
    import yaml
except ImportError:
    sys.exit("please install PyYAML")

print(yaml.safe_load("3"))
