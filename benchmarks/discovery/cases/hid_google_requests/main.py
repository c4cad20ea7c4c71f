from google.auth.transport.requests import Request

print(Request.__name__)
