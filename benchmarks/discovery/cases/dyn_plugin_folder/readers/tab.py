import simplejson


def read(text):
    return simplejson.loads(text)
