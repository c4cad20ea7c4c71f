import jinja2
import pandas as pd

TEMPLATE = jinja2.Environment().from_string

page = "Hello {{ name }}"


def greet(name):
    return jinja2.Template(page).render(name=name)


def unrelated():
    return pd.DataFrame()
