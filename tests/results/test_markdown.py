"""Tables as Markdown."""

from lfvit_cli.results.formats import fixed
from lfvit_cli.results.markdown import as_markdown
from lfvit_cli.results.tables import Column, Table


def test_columns_are_padded_and_aligned() -> None:
    """The text reads as a table even unrendered, and numbers align on the right."""
    columns = (Column("model", "model"), Column("top1", "top-1", "%", fixed(1), "right"))
    table = Table(columns, [{"model": "deit_small", "top1": 79.8}, {"model": "lf_deit_small", "top1": None}])
    assert as_markdown(table) == (
        "| model         | top-1 (%) |\n"
        "| ------------- | --------: |\n"
        "| deit_small    |      79.8 |\n"
        "| lf_deit_small |         - |\n"
    )


def test_cells_cannot_break_the_table() -> None:
    """A bar is escaped and a line end becomes a space."""
    table = Table((Column("note", "note"),), [{"note": "a|b\nc"}])
    assert as_markdown(table).splitlines()[2] == "| a\\|b c |"
