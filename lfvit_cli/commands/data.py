"""`lfvit data`: photos that do not come with the package."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import FormatOption
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import Format, show_table, show_text
from lfvit_cli.results.tables import Column, Table

if TYPE_CHECKING:
    from lfvit_cli.demo.grocery import Contents


def data(
    name: Annotated[Literal["grocery"], typer.Argument(metavar="NAME", help="The data set: grocery.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="A copy of the archive or of the folder, instead of the network."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the photos. [default: grocery, in the cache]"),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash the photos that are there already, too.")] = False,
    url: Annotated[str | None, typer.Option("--url", envvar="LFVIT_GROCERY_URL", hidden=True)] = None,
    form: FormatOption = "table",
) -> None:
    """Fetch photos, check each against its published hash, and lay them out as class folders.

    grocery is the Grocery Store Dataset (Klasson, Zhang and Kjellström, WACV 2019; MIT licence; about 130 MB): 5421
    photos of 81 groceries in their shops, split by its authors into train, validation and test. Afterwards
    --data grocery means these photos in every command that takes --data.

    They lie in the user's cache, or in the folder that LFVIT_DATA names. An interrupted download is gone on with by
    the same command, and photos that are damaged or missing are fetched anew.
    """
    from lfvit_cli.demo import grocery
    from lfvit_cli.demo.grocery_layout import provide

    folder = grocery.data_folder() / name if output is None else output.expanduser()
    whole = grocery.contents()
    try:
        lacked = provide(folder, whole, source or url or grocery.URL, progress, hashed=verify)
    except KeyboardInterrupt:
        talk.note("what is fetched is kept: the same command goes on from there")
        raise
    if 0 < len(lacked) < len(whole.photos):
        talk.note(f"{len(lacked)} were missing or not as published, and were laid out anew: {lacked[0]}, ...")
    talk.note(f"{'written to' if lacked else 'complete already:'} {folder}")
    _show(folder, whole, form)


def _show(folder: Path, whole: "Contents", form: Format) -> None:
    from lfvit_cli.demo.grocery import NAME, SPLITS

    photos = {split: whole.photos_in(split) for split in SPLITS}
    if form == "json":
        answer = {"name": NAME, "folder": str(folder.resolve()), "photos": photos, "classes": whole.classes}
        show_text(json.dumps(answer, indent=1))
        return
    rows: list[dict[str, Any]] = [
        {"split": split, "photos": count, "classes": whole.classes_in(split)} for split, count in photos.items()
    ]
    show_table(Table(COLUMNS, rows, title=f"{NAME}, {len(whole.classes)} classes"), form)


COLUMNS = (
    Column("split", "split"),
    Column("photos", "photos", justify="right"),
    Column("classes", "classes with photos", justify="right"),
)
