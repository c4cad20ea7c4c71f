"""Claim: imports from an environment of a store are as fast as from a virtual environment with warm bytecode.

The same interpreter imports NumPy and `scipy.optimize` from the environment that was packed, from the one that a store
made of it, and from the packed one without its bytecode, which is what a read-only folder costs that has none.

    python benchmarks/packing/imports.py [--python ENVIRONMENT/bin/python] [--rounds 15] [--quick] [--json]
"""

from __future__ import annotations

from rounds import SCRIPT, Subject, make_environment, options, process, show, take_turns
from rounds import work as work_folder

from envpack.pack import Store, pack

PROGRAM = "import numpy, scipy.optimize"


def main() -> None:
    chosen = options(__doc__ or "", 15)
    with work_folder() as work:
        (work / "script.py").write_text(SCRIPT)
        python = chosen.python or make_environment(work / "environment")
        store = Store(work / "store")
        there = (
            store.materialise(pack(work / "script.py", python=python, store=store), python=python) / "bin" / "python"
        )
        none = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(work / "none")}
        subjects = [
            Subject("environment of a store", lambda: process([there, "-c", PROGRAM])),
            Subject("the virtual environment, warm", lambda: process([python, "-c", PROGRAM])),
            Subject("the same without bytecode", lambda: process([python, "-c", PROGRAM], **none)),
        ]
        for subject in subjects[:2]:
            subject.run()  # bytecode that is missing is written now, as installers do
        take_turns(subjects, chosen.rounds)
        show("import numpy, scipy.optimize", subjects, chosen.json)


if __name__ == "__main__":
    main()
