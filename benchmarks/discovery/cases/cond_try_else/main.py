import json

try:
    import msgpack
except ModuleNotFoundError:
    encode = json.dumps
else:
    import lz4.frame

    encode = json.dumps
    _ = (msgpack.packb, lz4.frame.compress)

print(encode([1]))
