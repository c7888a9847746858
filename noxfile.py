"""The project's checks, one session each: lint, types, tests, minimums; and its reference runs: reports, gpu."""

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
PICTURES = {"contact-sheet": [], "panel": ["demo:fruits.jpg"]}


def tools(*groups: str) -> list[str]:
    """Return the requirements of dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, *groups))


def install_project(session: nox.Session, *extra: str) -> None:
    """Build the wheel from the working tree and install it, with its dependencies."""
    # uv would reuse a wheel built from an earlier state of the tree; pip always builds anew.
    rebuild = ["--reinstall-package=lfvit"] if session.venv_backend == "uv" else []
    session.install(*rebuild, *extra, ".")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the floors."""
    session.install(*tools("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install_project(session, *tools("types"))
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Test the built wheel, with coverage; arguments go to pytest."""
    install_project(session, *tools("tests"))
    session.run("pytest", "--numprocesses=auto", "--cov", *session.posargs)


# Made anew each time: in an old environment uv would keep whatever versions still fit.
@nox.session(python="3.11", venv_backend="uv", reuse_venv=False)
def minimums(session: nox.Session) -> None:
    """Test with the lowest allowed version of every dependency; arguments go to pytest."""
    install_project(session, "--resolution=lowest-direct")
    session.install(*tools("tests"))
    session.run("pytest", "--numprocesses=auto", *session.posargs)


@nox.session
def reports(session: nox.Session) -> None:
    """Make the committed reference runs anew, on an otherwise idle machine."""
    install_project(session)
    # The share of exits that the paper's MACs imply; bare, the demo network's own.
    published = ["--exit-rate", "0.78", "--dtype", "float32,bfloat16"]
    session.run("lfvit", "bench", *published, "-o", "reports/cpu-2-cores/bench")
    _bench_tuned(session, "reports/cpu-2-cores/tuned", "--batch-size", "1,32", "--seconds", "10")
    session.run("lfvit", "bench", "-o", "reports/demo/bench")
    session.run("lfvit", "sweep-threshold", "--max-drop", "1", "-o", "reports/demo/sweep")
    _bench_three_stages(session, "reports/three-stages")
    for picture, options in PICTURES.items():
        made = Path(session.create_tmp()) / picture
        session.run("lfvit", "visualize", *options, "-o", str(made))
        # Several photos give a contact sheet, beside a picture of each.
        sheet = made / "contact-sheet.png"
        Path("reports/demo/looks").mkdir(parents=True, exist_ok=True)
        shutil.copy(sheet if sheet.exists() else next(made.iterdir()), f"reports/demo/looks/{picture}.png")


@nox.session
def gpu(session: nox.Session) -> None:
    """Measure the runtime on a CUDA device; arguments go to lfvit bench."""
    install_project(session)
    session.install(".[energy]")
    folder = "reports/h200"
    recorded = ["--device", "cuda", "--graphs"]
    queued = ["--schedule", "queued", "--batch-size", "256,1024", "--round-photos", "16384", *recorded]
    _bench_tuned(session, f"{folder}/throughput", *queued, *session.posargs)
    _bench_tuned(session, f"{folder}/latency", "--batch-size", "1", *recorded, *session.posargs)


def _bench_three_stages(session: nox.Session, folder: str) -> None:
    """The network of CONTRIBUTING.md, its file written out as the page has it."""
    page = Path("CONTRIBUTING.md").read_text(encoding="utf-8")
    file = Path("exit_vit.py")
    file.write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    try:
        session.run("lfvit", "bench", "exit_vit_small", "--import", file.name, "--exit-rate", "0.5", "-o", folder)
    finally:
        file.unlink()


def _bench_tuned(session: nox.Session, folder: str, *options: str) -> None:
    """LF-ViT and DeiT-S each at its fastest, beside LF-ViT written plainly, with the weights of the demo."""
    weights = "lfvit_cli/demo/weights/lf_deit_small.safetensors"
    models = ["lf_deit_small", "deit_small_patch16_224", "plain_lf_deit_small"]
    outside = ["--import", "tests/networks/plain_lf_vit.py"]
    given = [part for model in (models[0], models[2]) for part in ("--checkpoint", f"{model}={weights}")]
    what = [*models, *outside, *given, "--exit-rate", "0.78", "--dtype", "float32,bfloat16", "--autotune"]
    session.run("lfvit", "bench", *what, *options, "-o", folder)
