from jinja2 import Template


def shorten(text):
    return Template("{{ t[:3] }}").render(t=text)
