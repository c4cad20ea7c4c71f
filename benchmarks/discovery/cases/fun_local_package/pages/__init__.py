import certifi

BUNDLE = certifi.where()
