import click


def label(text):
    return click.unstyle(text)
