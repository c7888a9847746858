"""The JSON schemas of the records, shipped in the package for whoever reads a record without it."""

import json
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfvit_cli.errors import ResultsError

if TYPE_CHECKING:
    from lfvit_cli.records import Record

# Kind of record: where its type is defined, "module:class" below lfvit_cli. Imported only when asked for.
RECORD_TYPES: dict[str, str] = {
    "authors_curve": "evaluation.authors_curve:AuthorsCurveRecord",
    "bench": "bench.record:BenchRecord",
    "sweep": "analysis.sweep:SweepRecord",
}


def record_type(kind: str) -> "type[Record]":
    """Return the type of a kind of record.

    Raises:
        ResultsError: Where no such kind exists.
    """
    if kind not in RECORD_TYPES:
        known = ", ".join(sorted(RECORD_TYPES))
        raise ResultsError(f"no kind of record is called {kind!r}", f"Known kinds: {known}")
    module, name = RECORD_TYPES[kind].split(":")
    found: type[Record] = getattr(import_module(f"lfvit_cli.{module}"), name)
    return found


def shipped_schema(kind: str) -> dict[str, Any]:
    """Return the JSON schema that the package ships for a kind of record.

    Raises:
        ResultsError: Where no such kind exists.
    """
    record_type(kind)
    schema: dict[str, Any] = json.loads((files("lfvit_cli.results") / "schemas" / _file_name(kind)).read_text("utf-8"))
    return schema


def schema_text(record: "type[Record]") -> str:
    """Return the JSON schema of a record as stored, as the text of its shipped file."""
    return json.dumps(record.model_json_schema(mode="serialization"), indent=2) + "\n"


def write_schemas(folder: Path) -> None:
    """Write the schema file of every kind of record; run after a record type has changed."""
    for kind in RECORD_TYPES:
        (folder / _file_name(kind)).write_text(schema_text(record_type(kind)), encoding="utf-8")


def _file_name(kind: str) -> str:
    return f"{kind}.schema.json"
