import importlib as il

TEMPLATE = "ruamel.{kind}"
yaml = il.import_module(TEMPLATE.format(kind="yaml"))
print(yaml.YAML(typ="safe").load("a: 1")["a"])
