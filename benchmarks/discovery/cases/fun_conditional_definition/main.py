import os

import msgpack
import pytz
import ruamel.yaml

if os.environ.get("NOT_SET_ANYWHERE"):

    def pack(value):
        return str(ruamel.yaml.YAML().dump(value))

else:

    def pack(value):
        return msgpack.packb(value)


def encode(value):
    return pack(value)


def zone():
    return pytz.utc
