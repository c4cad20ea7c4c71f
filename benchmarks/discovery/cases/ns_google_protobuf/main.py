import google.protobuf.timestamp_pb2 as stamp

print(stamp.Timestamp(seconds=3).seconds)
