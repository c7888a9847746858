"""The catalogue: every network by the name one types, read from one generated file, without torch."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).parent / "networks" / "catalogue.json"

# The four of one size that the commands compare when none is named.
SMALL = ("lf_deit_small", "deit_small_patch16_224", "dynamicvit_deit_small", "evo_deit_small_patch16_224")
REFERENCE = "deit_small_patch16_224"
TIMM = "timm"


class PublishedResult(NamedTuple):
    """A result on ImageNet-1k val as its authors report it: per cent, 10^9 MACs per image, and where it stands."""

    top1: float
    gmacs: float | None
    source: str


class Entry(BaseModel):
    """One network.

    Attributes:
        spec: what to type, ``NAME[:key=value,...]``.
        family: the method; ``timm`` for its classifiers.
        stages: their names; empty where only timm knows the network.
        params: parameters that its stages read; None where only timm knows the network.
        published: its published results, the first being the one a table shows.
        note: what a reader must know, such as that it is a reconstruction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str
    family: str
    stages: tuple[str, ...] = ()
    params: int | None = None
    published: tuple[PublishedResult, ...] = ()
    note: str = ""


class Catalogue(BaseModel):
    """All of it.

    Attributes:
        timm: the version of timm whose names it has.
        entries: the networks of this package, family by family.
        timm_names: of the classifiers that timm has besides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    timm: str
    entries: tuple[Entry, ...]
    timm_names: tuple[str, ...]


@cache
def shipped() -> Catalogue:
    """The catalogue that comes with the package."""
    return Catalogue.model_validate_json(FILE.read_text("utf-8"))


def is_current() -> bool:
    """Whether the timm that is installed is the one whose names the file has."""
    return metadata.version("timm") == shipped().timm


def find(pattern: str = "*", timm_names: Sequence[str] | None = None) -> list[Entry]:
    """Entries whose spec matches a shell pattern; ``*`` alone lists the networks of this package.

    Args:
        pattern: such as ``lf_*``.
        timm_names: timm's own classifiers; by default those of the file.
    """
    entries = [entry for entry in shipped().entries if fnmatchcase(entry.spec, pattern)]
    known = {entry.spec for entry in entries}
    if pattern.strip("*"):
        found = shipped().timm_names if timm_names is None else timm_names
        names = [name for name in found if fnmatchcase(name, pattern) and name not in known]
        entries += [Entry(spec=name, family=TIMM) for name in names]
    return entries


def complete(incomplete: str) -> list[str]:
    """Names that begin with what is typed so far, for the shell; those of this package come first."""
    names = (*(entry.spec for entry in shipped().entries), *shipped().timm_names)
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete)))


def catalogue_text(catalogue: Catalogue) -> str:
    """The content of the shipped file: a line for each entry."""
    lines = [json.dumps(entry.model_dump(mode="json", exclude_defaults=True)) for entry in catalogue.entries]
    entries = ",\n    ".join(lines)
    names = json.dumps(catalogue.timm_names)
    version = json.dumps(catalogue.timm)
    return f'{{\n  "timm": {version},\n  "entries": [\n    {entries}\n  ],\n  "timm_names": {names}\n}}\n'
