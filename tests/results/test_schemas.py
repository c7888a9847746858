"""The shipped schemas are those of the records."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Literal

import jsonschema
import pytest

from lfvit_cli.errors import ResultsError
from lfvit_cli.records import Facts, Record, capture_environment, command_line, now
from lfvit_cli.results import schemas


class Settings(Facts):
    """Settings of a record that only this test knows."""

    batch_size: int


class Sample(Record):
    """A record that only this test knows."""

    kind: Literal["sample"] = "sample"
    schema_version: Literal[1] = 1
    settings: Settings


def sample() -> Sample:
    """Return a real record."""
    return Sample(
        created=now(),
        command=command_line(),
        environment=capture_environment(),
        settings=Settings(batch_size=32),
        warnings=("untrained weights",),
    )


@pytest.mark.parametrize("kind", schemas.RECORD_TYPES)
def test_shipped_schema_is_the_records(kind: str) -> None:
    """A record type that changed needs its schema written anew: CONTRIBUTING.md says how."""
    assert schemas.shipped_schema(kind) == json.loads(schemas.schema_text(schemas.record_type(kind)))


def test_no_schema_without_a_record() -> None:
    """The shipped files are those of the known kinds, and no others."""
    folder = files("lfvit_cli.results") / "schemas"
    shipped = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    assert shipped == {f"{kind}.schema.json" for kind in schemas.RECORD_TYPES}


def test_a_real_record_is_valid() -> None:
    """A stored record satisfies the schema of its type, and a changed one does not."""
    schema = json.loads(schemas.schema_text(Sample))
    stored = json.loads(sample().model_dump_json())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(stored, schema)
    del stored["environment"]["python"]
    with pytest.raises(jsonschema.ValidationError, match="'python' is a required property"):
        jsonschema.validate(stored, schema)


def test_an_unknown_kind_names_the_known_ones() -> None:
    """Asking for a schema that does not exist is one clear error."""
    with pytest.raises(ResultsError, match="no kind of record is called 'nonsense'"):
        schemas.shipped_schema("nonsense")


def test_schemas_are_written_for_every_kind(tmp_path: Path) -> None:
    """Writing anew gives one readable file a kind."""
    schemas.write_schemas(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}.schema.json" for kind in schemas.RECORD_TYPES}
