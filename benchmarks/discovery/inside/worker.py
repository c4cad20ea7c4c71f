"""Calls a function that was sent: `worker.py PAYLOAD CALL PROJECT CLOUDPICKLE`, where CALL is the tuple of arguments.

The local modules that the function imports are in the folder PROJECT, as a worker would have them. What unpickles comes
from the folder CLOUDPICKLE, behind everything of the environment.
"""

import asyncio
import inspect
import os
import sys

if __name__ == "__main__":
    payload, call, project, extra = sys.argv[1:]
    sys.path[0] = project
    sys.path.append(extra)
    import pickle

    with open(payload, "rb") as file:
        function = pickle.load(file)
    arguments = eval(call)
    result = function(*arguments)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    elif inspect.isgenerator(result):
        result = list(result)
    print(result)
    sys.stdout.flush()
    os._exit(0)  # threads that a library left behind are not waited for
