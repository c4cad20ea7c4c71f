import importlib.util

spec = importlib.util.find_spec("tabulate")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.simple_separated_format(",").datarow)
