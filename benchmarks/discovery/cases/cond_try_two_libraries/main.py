try:
    from ruamel.yaml import YAML

    def load(text):
        return YAML(typ="safe").load(text)
except ImportError:
    import yaml

    def load(text):
        return yaml.safe_load(text)


print(load("[1, 2]"))
