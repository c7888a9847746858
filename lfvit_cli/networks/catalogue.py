"""Making the catalogue from the methods themselves; ``lfvit_cli.catalogue`` reads it."""

from importlib import metadata

import timm
import torch
from torch import nn

from lfvit_cli.catalogue import FILE, Catalogue, Entry, PublishedResult, catalogue_text, shipped
from lfvit_cli.networks.build import build, image_size
from lfvit_cli.networks.method import Method, methods
from lfvit_cli.networks.stages import Output, stage_names, stages_of
from lfvit_cli.networks.watching import Watching, count_read

IMPORTED = "imported"


def make_catalogue() -> Catalogue:
    """Build every network of every method, and note what the catalogue says of it."""
    entries = tuple(entry for method in methods() for entry in entries_of(method))
    return Catalogue(timm=metadata.version("timm"), entries=entries, timm_names=timm_classifiers())


def write_catalogue() -> None:
    """Write the shipped file; run after a method has been added or changed."""
    FILE.write_text(catalogue_text(make_catalogue()), "utf-8")


def entries_of(method: Method) -> list[Entry]:
    """What the catalogue says of a method's networks."""
    return [entry_of(method, spec) for spec in method.specs]


def entry_of(method: Method, spec: str) -> Entry:
    """What the catalogue says of one network."""
    network = build(spec)
    return Entry(
        spec=spec,
        family=method.family,
        stages=stage_names(network),
        params=parameters_read(network),
        published=tuple(PublishedResult(*vars(each).values()) for each in method.published.get(spec, ())),
        note=method.note,
    )


def imported_entries() -> list[Entry]:
    """What the catalogue would say of the methods and names that were imported from outside the package."""
    outside = [method for method in methods() if not any(name in _shipped_names() for name in method.models)]
    described = {name for method in methods() for name in method.models}
    entries = [entry for method in outside for entry in entries_of(method)]
    for name in timm.list_models():
        module = timm.models.model_entrypoint(name).__module__
        if name not in described and not module.startswith("timm."):
            network = build(name)
            params = parameters_read(network)
            entries.append(Entry(spec=name, family=IMPORTED, stages=stage_names(network), params=params))
    return entries


def _shipped_names() -> set[str]:
    return {entry.spec for entry in shipped().entries}


def timm_classifiers() -> tuple[str, ...]:
    """Names that timm itself knows, without those of this package and of imported methods."""
    ours = {name for method in methods() for name in method.models if method.network is not None}
    modules = {name: timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    return tuple(name for name, module in modules.items() if name not in ours and module.startswith("timm."))


@torch.no_grad()
def parameters_read(network: nn.Module) -> int:
    """Parameters that answering reads, in all stages together: those for training alone do not count."""
    images = torch.zeros(1, 3, image_size(network), image_size(network))
    state: Output | None = None
    with Watching() as seen:
        for stage in stages_of(network):
            state = stage(images, state)
    return count_read(seen)
