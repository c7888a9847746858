"""Tests of catalogue.py and networks/catalogue.py: the shipped file is what the methods say."""

import pytest
from running import Run

from lfvit_cli.catalogue import FILE, REFERENCE, SMALL, catalogue_text, complete, find, shipped
from lfvit_cli.networks.catalogue import entry_of, timm_classifiers
from lfvit_cli.networks.method import methods

WRITE = "from lfvit_cli.networks.catalogue import write_catalogue; write_catalogue()"


def test_the_shipped_file_is_what_the_methods_say() -> None:
    """Specs, families, notes and published figures of every method, in its order; run ``WRITE`` where they differ."""
    said = [
        (spec, method.family, method.note, [tuple(vars(each).values()) for each in method.published.get(spec, ())])
        for method in methods()
        for spec in method.specs
    ]
    held = [(entry.spec, entry.family, entry.note, list(map(tuple, entry.published))) for entry in shipped().entries]
    assert held == said, f'python -c "{WRITE}"'
    assert FILE.read_text("utf-8") == catalogue_text(shipped())


@pytest.mark.parametrize("family", list(dict.fromkeys(method.family for method in methods())))
def test_stages_and_parameters_are_those_of_the_networks(family: str) -> None:
    """Of the smallest network of every method, built and run."""
    entries = [entry for entry in shipped().entries if entry.family == family]
    smallest = min(entries, key=lambda entry: entry.params or 0)
    (method,) = (method for method in methods() if smallest.spec in method.specs)
    assert entry_of(method, smallest.spec) == smallest, f'python -c "{WRITE}"'


def test_timms_names_are_timms() -> None:
    """Of the version that the file names, where it is the one that is installed; never ours."""
    import timm

    if timm.__version__ == shipped().timm:
        assert shipped().timm_names == timm_classifiers()
    ours = {name for method in methods() if method.network is not None for name in method.models}
    assert not ours & set(shipped().timm_names)


def test_the_compared_four_are_in_it() -> None:
    """The commands' default models, the reference among them."""
    assert set(SMALL) <= {entry.spec for entry in shipped().entries}
    assert REFERENCE in SMALL


def test_published_figures_are_plausible_and_sourced() -> None:
    """Accuracies are per cents, costs at most DeiT-B's, and each figure says where it stands."""
    figures = [figure for entry in shipped().entries for figure in entry.published]
    assert len(figures) >= 10
    assert all(70 < figure.top1 < 87 for figure in figures)
    assert all(figure.gmacs is None or 0.2 < figure.gmacs < 17.6 for figure in figures)
    assert all(figure.source and "(mem)" not in figure.source for figure in figures)


@pytest.mark.parametrize(
    ("pattern", "specs"),
    [
        ("evo_deit*", ["evo_deit_tiny_patch16_224", "evo_deit_small_patch16_224", "evo_deit_base_patch16_224"]),
        ("lf_deit_small", ["lf_deit_small"]),
        ("*location_grid=9", ["lf_deit_small:location_grid=9"]),
        ("LF_*", []),
    ],
)
def test_find(pattern: str, specs: list[str]) -> None:
    """A shell pattern finds specs; nothing matches the wrong case."""
    assert [entry.spec for entry in find(pattern)] == specs


def test_find_reaches_timms_names_by_a_pattern_alone() -> None:
    """Without one, no filter and none of timm's own."""
    assert tuple(find()) == shipped().entries
    found = [entry.spec for entry in find("vit_small*")]
    assert "vit_small_patch16_224" in found
    assert all(name.startswith("vit_small") for name in found)


def test_completion_offers_ours_first() -> None:
    """Then timm's."""
    offered = complete("deit_small_patch16_2")
    assert offered[0] == "deit_small_patch16_224"
    assert "vit_tiny_patch16_224" in complete("vit_tiny_patch16")


def test_the_catalogue_answers_without_torch(run_python: Run) -> None:
    """Reading, finding and completing import neither torch nor timm."""
    program = (
        "import sys; from lfvit_cli.catalogue import complete, find; assert find('vit_small*') and complete('lf_');"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
