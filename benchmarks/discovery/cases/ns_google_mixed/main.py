from google.api import http_pb2
from google.protobuf import struct_pb2
from google.rpc.code_pb2 import NOT_FOUND

print(NOT_FOUND, http_pb2.DESCRIPTOR.name, struct_pb2.Struct().IsInitialized())
