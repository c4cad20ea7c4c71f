SETUP = """
import simplejson
encoder = simplejson.dumps
"""
names = {}
exec(SETUP, names)
print(names["encoder"]({"a": 1}))
