"""`lfvit visualize`: where a network looked in a photo, what it answered, and why it stopped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lfvit_cli.console import talk
from lfvit_cli.console.options import (
    MODEL_SYNTAX,
    CriterionOption,
    DeviceOption,
    DtypeOption,
    ImportOption,
    OutputOption,
    PolicyOption,
    ThresholdsOption,
    complete_model,
    exit_thresholds,
    sources_by_model,
)
from lfvit_cli.console.progress import progress
from lfvit_cli.console.tables import show_table, show_text
from lfvit_cli.demo.suite import with_demo_weights
from lfvit_cli.results.formats import scaled
from lfvit_cli.results.tables import Column, Table, as_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from lfvit_cli.errors import UnreadableImageError
    from lfvit_cli.looks.class_names import ClassNames
    from lfvit_cli.looks.look import Look
    from lfvit_cli.looks.photos import PhotoFiles
    from lfvit_cli.looks.viewer import Viewer
    from lfvit_cli.policies import ExitPolicy
    from lfvit_cli.records import Progress

Picture = Literal["png", "svg", "pdf"]
PictureOrJson = Literal["png", "svg", "pdf", "json"]
Only = Literal["exited", "focused", "harmed"]

DEFAULT_MODEL = "lf_deit_small"
# More rows than a person would read in a terminal.
MOST_ROWS = 24


def visualize(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Photos, folders of photos or of class folders, patterns, demo:apple.jpg. "
            "[default: the photos that come with lfvit]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help=f"The network, as {MODEL_SYNTAX}. [default: {DEFAULT_MODEL}]",
            autocompletion=complete_model,
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="[MODEL=]SOURCE",
            help="Weights: a .pth or .safetensors file, or hf-hub:OWNER/NAME. [default: the demo's, else random]",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="MODEL...", help="More networks, drawn beside the first."),
    ] = None,
    threshold: ThresholdsOption = None,
    criterion: CriterionOption = None,
    policy: PolicyOption = None,
    imports: ImportOption = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", metavar="FILE", help="Class names, one a line, or JSON.")
    ] = None,
    only: Annotated[
        Only | None,
        typer.Option(
            "--only",
            help="Only photos that an earlier stage than the last answered (exited), that the last stage answered "
            "(focused), or whose right answer a later stage spoiled (harmed).",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="Maximum number of photos, spread over the classes."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    output: OutputOption = Path("reports/visualize"),
    form: Annotated[
        PictureOrJson, typer.Option("--format", help="Kind of picture; json draws none and prints a record.")
    ] = "png",
) -> None:
    """Show where a network looked in each photo, what every stage answered, why it stopped, and what that cost.

    Every photo becomes a picture in --output; several photos get a contact sheet as well. A photo in a folder named
    like a class has that class as its label. Without --policy and --threshold, the demo network exits as it was
    calibrated, and any other as its authors publish.
    """
    if policy and threshold is not None:
        raise typer.BadParameter("give either a policy or a threshold", param_hint="--policy")
    numbers = None if threshold is None else exit_thresholds(threshold, "--threshold")

    from lfvit_cli.networks.plugins import load_methods

    load_methods(imports or [])
    images, compared = _take_models(images or [], compare or [])
    models = tuple(dict.fromkeys((model or DEFAULT_MODEL, *compared)))
    given = sources_by_model(checkpoint or [], models, "--checkpoint")
    demo = with_demo_weights(models, given, None)
    files = {model: Path(file) for model, file in sources_by_model(policy or [], models, "--policy").items()}

    from lfvit_cli.files import prepare_folder
    from lfvit_cli.images.demo import demo_folder
    from lfvit_cli.looks.photos import find_photos, spread

    photos = find_photos(images or [str(demo_folder())])
    if form != "json":
        prepare_folder(output)
    viewers = _viewers(models, given | demo, demo, device, dtype)
    policies = [_policy(viewer, numbers, criterion, files.get(viewer.model)) for viewer in viewers]
    if (numbers or criterion) and not any(each.thresholds for each in policies):
        talk.note("no network here has an early exit: --threshold and --criterion change nothing")
    names = [_names(viewer, viewers, classes, photos) for viewer in viewers]
    _check_filter(only, viewers[0], names[0], photos)
    chosen = spread(photos.files, [names[0].label_of(file) for file in photos.files], limit)
    skipped: list[UnreadableImageError] = []
    with progress("Looking") as report:
        seen = _look(chosen, viewers, names, policies, only, skipped, report)
        rows = [_row(look) for looks in seen for look in looks] if form == "json" else _draw(seen, output, form)
    if len(skipped) == len(chosen):
        raise skipped[0]
    _tell(rows, len(chosen), skipped, viewers, only)
    if form == "json":
        show_text(as_json(Table((), rows)))
    elif rows:
        _show(rows, output)


def _policy(
    viewer: "Viewer", thresholds: tuple[float, ...] | None, criterion: str | None, file: Path | None
) -> "ExitPolicy":
    """When the answers of a network stand: as given, as calibrated for the demo, or as its method publishes."""
    from lfvit_cli.analysis.demo import demo_policies
    from lfvit_cli.networks.choosing import chosen_policy
    from lfvit_cli.policies import ExitPolicy

    if len(viewer.stages) == 1 and file is None:
        # Thresholds are for the other networks.
        return ExitPolicy.never(1)
    if viewer.limited and thresholds is None and file is None:
        calibrated = demo_policies([viewer.model]).get(viewer.model)
        if calibrated is not None and criterion in (None, calibrated.criterion):
            return calibrated
    return chosen_policy(viewer.model, viewer.stages, thresholds, criterion, file)


def _take_models(images: list[str], compare: list[str]) -> tuple[list[str], list[str]]:
    """Of ``--compare A B`` the parser gives B to the images: a model's name that is no file goes with --compare."""
    if not compare:
        return images, compare
    import timm

    import lfvit_cli.networks  # noqa: F401  # registers the networks with timm

    more = [image for image in images if not Path(image).exists() and timm.is_model(image.partition(":")[0])]
    return [image for image in images if image not in more], [*compare, *more]


def _viewers(
    models: tuple[str, ...], sources: dict[str, str], demo: dict[str, str], device: str, dtype: str
) -> "list[Viewer]":
    from lfvit_cli.looks.viewer import Viewer
    from lfvit_cli.runtime.devices import choose_device, choose_dtype

    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    return [Viewer(model, sources.get(model), place, precision, limited=model in demo) for model in models]


def _names(viewer: "Viewer", viewers: "list[Viewer]", file: Path | None, photos: "PhotoFiles") -> "ClassNames":
    """What the network's classes are called; networks of as many classes share the names of one's checkpoint."""
    from lfvit_cli.looks.class_names import HEADER_KEY, name_classes

    alike = [other.header for other in (viewer, *viewers) if other.num_classes == viewer.num_classes]
    header = next((header for header in alike if HEADER_KEY in header), None)
    return name_classes(viewer.num_classes, file, header, photos)


def _check_filter(only: Only | None, viewer: "Viewer", names: "ClassNames", photos: "PhotoFiles") -> None:
    from lfvit_cli.errors import MeasureError

    if only is not None and len(viewer.stages) == 1:
        raise MeasureError(
            f"{viewer.model} has one stage, so --only {only} has nothing to choose by",
            "Leave it out, or name a network with early exits.",
        )
    if only == "harmed" and all(names.label_of(file) is None for file in photos.files):
        known = ", ".join(list(names.folders or names.names)[:3])
        raise MeasureError(
            "without labels it is unknown which answers were right",
            f"Put the photos in folders named like the classes ({known}, ...).",
        )


def _look(
    files: Sequence[Path],
    viewers: "list[Viewer]",
    names: "list[ClassNames]",
    policies: "list[ExitPolicy]",
    only: Only | None,
    skipped: "list[UnreadableImageError]",
    report: "Progress",
) -> "Iterator[list[Look]]":
    """Every network's look at each photo that the filter lets through; photos that cannot be read are noted."""
    for number, file in enumerate(files, start=1):
        photo = _open(file, skipped)
        if photo is not None:
            looks = [
                viewer.look(file, photo, own, policy)
                for viewer, own, policy in zip(viewers, names, policies, strict=True)
            ]
            if _passes(looks[0], only):
                yield looks
        report(number, len(files), file.name)


def _open(file: Path, skipped: "list[UnreadableImageError]") -> "Image | None":
    from lfvit_cli.errors import UnreadableImageError
    from lfvit_cli.images.decode import open_image

    try:
        return open_image(file)
    except UnreadableImageError as error:
        skipped.append(error)
        return None


def _passes(look: "Look", only: Only | None) -> bool:
    match only:
        case "exited":
            return look.exited
        case "focused":
            return not look.exited
        case "harmed":
            return look.harmed
    return True


def _draw(seen: "Iterator[list[Look]]", output: Path, form: Picture) -> list[dict[str, Any]]:
    """Draw and save the pictures; give a row for each look, with the picture that shows it."""
    from lfvit_cli.figures.gallery import gallery
    from lfvit_cli.files import write_bytes

    rows = []
    for picture in gallery(seen, form):
        write_bytes(output / picture.name, picture.content)
        rows += [{**_row(look), "picture": picture.name} for look in picture.looks]
    return rows


def _row(look: "Look") -> dict[str, Any]:
    from lfvit_cli.looks.look import look_record

    return look_record(look).model_dump()


def _tell(
    rows: list[dict[str, Any]],
    photos: int,
    skipped: "list[UnreadableImageError]",
    viewers: "list[Viewer]",
    only: Only | None,
) -> None:
    """Say what a reader must know before trusting the answer."""
    for viewer in viewers:
        if viewer.checkpoint is None:
            talk.warning(f"{viewer.model} has random weights: where it looks and what it answers is arbitrary")
    for known in dict.fromkeys(f"{row['model']} {row['knows']}" for row in rows if row["knows"]):
        talk.note(f"{known}; --checkpoint gives it other weights")
    if skipped:
        talk.warning(f"skipped {len(skipped)} of {photos} images: {skipped[0].problem}")
    if only is not None:
        talk.note(f"{only}: {len(rows) // len(viewers)} of {photos - len(skipped)} photos")


def _show(rows: list[dict[str, Any]], output: Path) -> None:
    answers = [{**row, "answer": row["stages"][row["answered_by"]]} for row in rows[:MOST_ROWS]]
    several = len({row["model"] for row in rows}) > 1
    show_table(Table([column for column in COLUMNS if several or column.name != "model"], answers))
    more = f"; {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
    talk.note(f"written to {output}{more}")


COLUMNS = (
    Column("picture", "picture"),
    Column("model", "model"),
    Column("answer", "answer", format=lambda answer: f"{answer['name']} {answer['confidence']:.2f}"),
    Column("answered_by", "answered after"),
    Column("macs", "GMACs", "", scaled(1e9, 2), "right"),
)
