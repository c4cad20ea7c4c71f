from google.rpc import code_pb2
from google.type import date_pb2

print(date_pb2.Date(year=2020, month=1, day=2).year, code_pb2.Code.Name(5))
