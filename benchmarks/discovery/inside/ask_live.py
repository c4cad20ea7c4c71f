"""Runs a script and prints which distributions `envpack.analyze` names for one of its functions: `SCRIPT FUNCTION`."""

import json
import operator
import os
import sys
import types

from program import code_of

if __name__ == "__main__":
    script, name = os.path.abspath(sys.argv[1]), sys.argv[2]
    sys.path[0] = os.path.dirname(script)
    sys.argv = [script]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__file__ = script
    exec(compile(code_of(script), script, "exec"), vars(main))
    from envpack import analyze

    found = analyze(operator.attrgetter(name)(main))
    print(json.dumps([dist.name for dist in found.distributions if dist.role in ("direct", "hidden")]))
