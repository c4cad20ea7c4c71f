from importlib import import_module

PLUGINS = {
    "parse": "dateutil.parser:isoparse",
    "zone": "pytz:timezone",
}


def plugin(name):
    module, _, attribute = PLUGINS[name].partition(":")
    return getattr(import_module(module), attribute)


print(plugin("parse")("2024-02-29").astimezone(plugin("zone")("UTC")).year)
