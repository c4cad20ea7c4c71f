class Codec:
    from msgpack import packb, unpackb

    pack = staticmethod(packb)
    unpack = staticmethod(unpackb)


print(Codec.unpack(Codec.pack({"a": 1})))
