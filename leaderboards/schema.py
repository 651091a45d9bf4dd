"""The JSON Schema of a record: `python -m vdm_bench.leaderboards.schema > leaderboards/record.schema.json`."""

import inspect
import re
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from vdm_bench.leaderboards.record import Record, json_text
from vdm_bench.metrics.score import Estimate, Interval, Score


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (Draft 2020-12) of a record, with a description of every field."""
    schema = Record.model_json_schema()
    for described in (Score, Interval, Estimate):
        _describe_fields(schema["$defs"][described.__name__], inspect.getdoc(described) or "")
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _describe_fields(schema: dict[str, Any], docstring: str) -> None:
    """Copy the `Attributes:` of a docstring to the fields, as plain dataclasses have no field descriptions."""
    schema["description"], _, attributes = docstring.partition("\n\nAttributes:\n")
    for name, text in re.findall(r"^    (\w+): (.+(?:\n {5,}.+)*)", attributes, re.MULTILINE):
        schema["properties"][name]["description"] = " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(json_text(record_schema()))
