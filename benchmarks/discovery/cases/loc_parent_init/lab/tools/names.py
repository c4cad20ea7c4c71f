import jinja2


def title(text):
    return jinja2.Template("{{ t|title }}").render(t=text)
