"""Merge a configuration with overrides, check it, write it in the format that is asked for."""

import importlib
import io
from typing import Literal

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from toolz import assoc_in, get_in

BASE = """\
run:
  name: test   # shown in the log
  steps: 10
solver: {kind: direct}
"""
WRITERS = {"json": "simplejson", "pack": "msgpack", "none": None}


class Solver(BaseModel):
    kind: Literal["direct", "iterative"] = "direct"
    tolerance: float = Field(1e-6, gt=0)


class Run(BaseModel):
    name: str
    steps: int = Field(gt=0)


class Config(BaseModel):
    run: Run
    solver: Solver = Solver()


def override(data, assignments):
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        keys = path.split(".")
        kind = type(get_in(keys, data, default=""))
        data = assoc_in(data, keys, kind(value))
    return data


def write(config, kind):
    if WRITERS[kind] is None:
        return ""
    return importlib.import_module(WRITERS[kind]).dumps(config.model_dump(), sort_keys=True)


def main():
    yaml = YAML()
    data = yaml.load(BASE)
    yaml.dump(data, buffer := io.StringIO())
    print("# shown in the log" in buffer.getvalue())
    plain = YAML(typ="safe").load(BASE)
    print(write(Config(**override(plain, ["run.steps=20", "solver.kind=iterative"])), "json"))
    try:
        Config(**override(plain, ["run.steps=-1"]))
    except ValidationError as error:
        print(error.error_count(), "error")


if __name__ == "__main__":
    main()
