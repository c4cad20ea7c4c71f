"""The context process: what runs inside it, and the bytes it speaks. Standard library only.

These modules are not imported there from disk. Their code is sent through the socket pair, because the environment of
a context process holds what the user's function needs and nothing of ours.
"""
