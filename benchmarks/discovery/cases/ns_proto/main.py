import proto


class Point(proto.Message):
    x = proto.Field(proto.INT32, number=1)


print(Point(x=3).x)
