import toolz


def pieces(text):
    return tuple(toolz.map(str.upper, text.split(";"))) if hasattr(toolz, "map") else tuple(text.upper().split(";"))
