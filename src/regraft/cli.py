"""The command line: each command parses, calls one function, prints."""

import csv
import gc
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.errors import JobError, RegraftError

app = typer.Typer(
    help="Reuse pretrained layers: restore, freeze, compute once, train the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(help="Look at, check and clear stored features.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

INTERRUPTED = 130  # the exit code that shells give a command stopped by Ctrl-C

CheckpointPath = Annotated[Path, typer.Argument(help="A checkpoint: file, folder, or TensorFlow prefix.")]


@app.command()
def show(
    checkpoint: CheckpointPath,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Names, shapes and dtypes of a checkpoint's arrays. Reads no values."""
    from regraft.reading import open_checkpoint
    from regraft.showing import as_table, as_text

    # 10,000 arrays are 100,000 small objects that all stay: looking for garbage among them is a quarter of the time.
    gc.disable()
    try:
        opened = open_checkpoint(checkpoint)
        typer.echo(as_text(opened) if as_json else as_table(opened))
    finally:
        gc.enable()


@app.command()
def plan(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint: file, folder, or TensorFlow prefix.", show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option(help="timm:NAME, torchvision:NAME, package.module:factory, file.py:factory")
    ] = "",
    model_args: Annotated[str, typer.Option(help="The factory's arguments as JSON.")] = "{}",
    reuse: Annotated[list[str] | None, typer.Option(help="Pattern of layers to restore; may be given again.")] = None,
    fresh: Annotated[
        list[str] | None, typer.Option(help="Pattern of layers that stay new; may be given again.")
    ] = None,
    rename: Annotated[list[str] | None, typer.Option(help="THEIRS=OURS, a regular expression; again for more.")] = None,
    layout: Annotated[str | None, typer.Option(help="Whose axis orders the arrays follow.")] = None,
    match: Annotated[str, typer.Option(help="names or structure")] = "names",
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON.")] = None,
    diff: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two plans as JSON: what the second does otherwise, nothing else.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="A row for every array.")] = False,
) -> None:
    """Where each array would go, and why; nothing is changed. Exit 1 when the plan has problems."""
    if diff is not None:
        _tell_differences(*diff)
        return
    if checkpoint is None or not model:
        raise typer.BadParameter("give a checkpoint and --model, or --diff and two plans")
    from regraft.factories import build_model
    from regraft.files import write_whole
    from regraft.matching import plan_reuse
    from regraft.reading import open_checkpoint

    rules = _pairs(rename or [])
    built = build_model(model, _json_object(model_args))
    made = plan_reuse(
        open_checkpoint(checkpoint),
        built,
        reuse=reuse or ".*",
        fresh=fresh or (),
        rename=rules,
        layout=layout,
        match=match,  # type: ignore[arg-type]  # plan_reuse refuses other words itself
    )
    typer.echo(made.table(all=show_all))
    if out is not None:
        write_whole(out, made.to_json())
    if made.problems:
        raise typer.Exit(1)


@app.command()
def verify(
    plan: Annotated[Path, typer.Argument(help="A plan as JSON; its checkpoint must still be where the plan says.")],
    model: Annotated[str, typer.Option(help="timm:NAME, torchvision:NAME, package.module:factory, file.py:factory")],
    golden: Annotated[Path, typer.Option(help="An .npz of x, y and layer.NAME: what the source framework recorded.")],
    model_args: Annotated[str, typer.Option(help="The factory's arguments as JSON.")] = "{}",
    atol: Annotated[float, typer.Option(help="The largest absolute difference.")] = 1e-5,
) -> None:
    """Apply a plan to a new model and compare its outputs with recorded ones. Exit 1 when they differ."""
    from regraft.factories import build_model
    from regraft.loading import apply_plan
    from regraft.plan import Plan
    from regraft.reading import open_checkpoint
    from regraft.verifying import read_golden
    from regraft.verifying import verify as compare

    made = Plan.from_json(_text_of(plan))
    built = build_model(model, _json_object(model_args))
    apply_plan(made, open_checkpoint(made.checkpoint.path), built)
    recorded = read_golden(golden)
    told = compare(built, recorded.inputs, recorded.outputs, atol=atol, intermediate=recorded.layers)
    typer.echo(str(told))


@app.command("reuse")
def run_job(
    job: Annotated[Path, typer.Argument(help="A job.toml.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; again for more.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the run folder if it exists.")] = False,
    skip_unreadable: Annotated[bool, typer.Option(help="Go on without damaged images, with a note.")] = False,
) -> None:
    """The main job: restore, freeze, cache, train, evaluate, save, report."""
    from regraft.job import Job
    from regraft.recipe import reuse

    extra = ["out.overwrite=true"] * overwrite + ["data.skip_unreadable=true"] * skip_unreadable
    run = reuse(Job.from_file(job, [*(settings or []), *extra]), tell=typer.echo)
    typer.echo(run.summary())


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, folders of images, or .npz files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with every class's probability.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated: name, class, probability.")] = False,
) -> None:
    """The class and its probability for new images."""
    from regraft.recipe import predict as predict_with

    answers = predict_with(run, paths)
    if as_json:
        typer.echo(json.dumps([vars(answer) for answer in answers], indent=1))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "class", "probability"])
        writer.writerows([answer.name, answer.label, f"{answer.probability:.6f}"] for answer in answers)
    else:
        width = max(len(answer.name) for answer in answers)
        for answer in answers:
            typer.echo(f"{answer.name:<{width}}  {answer.label}  {answer.probability:.3f}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the run and its report.")] = Path("regraft-demo"),
    overwrite: Annotated[bool, typer.Option(help="Replace the folder if it exists.")] = False,
) -> None:
    """The main job on handwritten digits that ship with scikit-learn: no network, no files, under two minutes."""
    from regraft.demo import run_demo

    typer.echo(run_demo(out, overwrite=overwrite).summary())


FeatureFolder = Annotated[str, typer.Argument(help="A feature folder, or a URL that fsspec knows.")]
OneKey = Annotated[str | None, typer.Option("--key", help="One entry's key, or its beginning.")]


@cache_app.command("ls")
def cache_ls(folder: FeatureFolder) -> None:
    """What each entry belongs to, its size, and whether it is whole. Exit 1 when one is damaged, after the list."""
    from regraft.entries import as_table, list_entries

    entries = list_entries(folder)
    typer.echo(as_table(entries))
    if any(entry.state == "damaged" for entry in entries):
        raise typer.Exit(1)


@cache_app.command("verify")
def cache_verify(folder: FeatureFolder, key: OneKey = None) -> None:
    """Read and hash every stored byte. Exit 1 when something is not what was written."""
    from regraft.entries import verify_entries

    found = verify_entries(folder, [key] if key else [])
    for entry, problems in found.items():
        typer.echo("\n  ".join([f"{entry}  {'damaged' if problems else 'verified'}", *problems]))
    if any(found.values()):
        raise typer.Exit(1)


@cache_app.command("clear")
def cache_clear(
    folder: FeatureFolder,
    key: OneKey = None,
    older_than_days: Annotated[float | None, typer.Option(help="To which nothing was added for so long.")] = None,
    keep_gb: Annotated[float | None, typer.Option(help="The oldest, until the rest is no larger.")] = None,
) -> None:
    """Remove entries by key, age or size; those that are being built stay."""
    from regraft.entries import as_table, clear_entries

    age = None if older_than_days is None else older_than_days * 86400
    size = None if keep_gb is None else int(keep_gb * 1e9)
    removed = clear_entries(folder, key=key, older_than_s=age, keep_bytes=size)
    typer.echo("removed:\n" + as_table(removed) if removed else "nothing to remove")


def main() -> None:
    """Run the command line: a RegraftError prints without a traceback and exits with 1, wrong usage with 2."""
    try:
        app(standalone_mode=True)
    except (RegraftError, OSError) as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.echo("Stopped; nothing half-written was left.", err=True)
        raise


def _tell_differences(before: Path, after: Path) -> None:
    from regraft.plan import Plan

    lines = Plan.from_json(_text_of(before)).diff(Plan.from_json(_text_of(after)))
    typer.echo("\n".join(lines) if lines else "The plans do the same.")


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path} cannot be read as a plan: {error}. `regraft plan … --out` writes one.") from error


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise JobError(f"--model-args {text!r} is no JSON: {error}. Expected '{{\"num_classes\": 6}}'.") from error
    if not isinstance(value, dict):
        raise JobError(f"--model-args {text!r} is no JSON object. Expected '{{\"num_classes\": 6}}'.")
    return value


def _pairs(rules: list[str]) -> dict[str, str]:
    wrong = [rule for rule in rules if "=" not in rule]
    if wrong:
        raise JobError(f"--rename {wrong[0]!r} is not of the form THEIRS=OURS, as in 'dnn/(.*)=\\1'.")
    return dict(tuple(rule.split("=", 1)) for rule in rules)  # type: ignore[misc]  # two parts, as just checked
