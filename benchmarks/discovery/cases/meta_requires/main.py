from importlib.metadata import distribution

from packaging.requirements import Requirement

needs = distribution("python-dateutil").requires or []
print(all(Requirement(line).name for line in needs), bool(needs))
