"""The user's program as text: source files parsed once each, their scopes, and the constants in them."""
