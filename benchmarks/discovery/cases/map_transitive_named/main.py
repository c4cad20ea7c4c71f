import flask
import markupsafe
import werkzeug.datastructures

print(flask.Flask("a").name, markupsafe.escape("<"), werkzeug.datastructures.MultiDict([("a", 1)])["a"])
