import functools

import tabulate


def traced(name):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return tabulate.tabulate([[name, function(*args)]])

        return wrapper

    return decorate


def unused():
    import plotly

    return plotly
