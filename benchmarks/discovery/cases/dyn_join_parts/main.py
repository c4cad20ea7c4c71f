from importlib import import_module

ROUTES = {"gamma": ["scipy", "special"], "mean": ["statistics"]}


def route(kind):
    return import_module(".".join(ROUTES[kind]))


print(route("gamma").gamma(5.0), route("mean").mean([1, 2, 3]))
