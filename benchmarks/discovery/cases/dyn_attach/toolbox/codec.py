import msgpack


def pack(value):
    return msgpack.packb(value)
