"""The command line: each command parses, calls one function, prints.

By argparse: `regraft show` answers before a larger library for commands would be imported (benchmarks/startup.py).
"""

import gc
import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from regraft.errors import JobError, PlanError, RegraftError, SaveError
from regraft.stopping import stoppable

if TYPE_CHECKING:
    from regraft.plan import Plan

INTERRUPTED = 130  # the exit code that shells give a command stopped by Ctrl-C
SPEC = "timm:NAME, torchvision:NAME, package.module:factory, file.py:factory"


def show(checkpoint: Path, *, as_json: bool) -> None:
    """Names, shapes and dtypes of a checkpoint's arrays. Reads no values."""
    # 10,000 arrays are 100,000 small objects that all stay: looking for garbage among them is a quarter of the time.
    gc.disable()
    try:
        from regraft.formats.listing import as_table, as_text
        from regraft.reading import open_checkpoint

        opened = open_checkpoint(checkpoint)
        _say(as_text(opened) if as_json else as_table(opened))
    finally:
        gc.enable()


def plan(
    checkpoint: Path | None, *, model: str, model_args: str, reuse: list[str] | None, fresh: list[str] | None,
    rename: list[str] | None, layout: str | None, match: Literal["names", "structure"], adapt: list[str] | None,
    adopt: list[str] | None, accept: list[str] | None, ema: bool, out: Path | None, show_all: bool,
    diff: tuple[Path, Path] | None,
) -> None:  # fmt: skip
    """Where each array would go, and why; nothing is changed. Exit 1 when the plan has problems."""
    if diff is not None:
        if any((checkpoint, model, reuse, fresh, rename, layout, adapt, adopt, accept, ema, out, show_all)):
            _refuse_usage("plan", "--diff compares two finished plans and takes nothing else")
        _tell_differences(*diff)
        return
    if checkpoint is None or not model:
        _refuse_usage("plan", "give a checkpoint and --model, or --diff and two plans")
    from regraft.files import write_whole
    from regraft.jobs.advice import rewritten, spelled_for
    from regraft.jobs.factories import build_model
    from regraft.matching import plan_reuse
    from regraft.reading import open_checkpoint

    rules, ways = _pairs("rename", "THEIRS=OURS", rename or []), _pairs("adapt", "PATTERN=WAY", adapt or [])
    built = build_model(model, _json_object(model_args))
    with spelled_for("command line"):
        made = plan_reuse(
            open_checkpoint(checkpoint),
            built,
            reuse=reuse or ".*",
            fresh=fresh or (),
            rename=rules,
            layout=layout,
            match=match,
            adapt=ways,
            adopt=adopt or (),
            accept=accept or (),
            ema=ema,
        )
    _say(rewritten(made.table(all=show_all), "command line"))
    if out is not None:
        try:
            write_whole(out, made.to_json())
        except OSError as error:
            raise SaveError(f"The plan cannot be written to {out}: {error.strerror}. Choose another place.") from error
    if made.problems:
        sys.exit(1)


def verify(plan: Path, *, model: str, golden: Path, model_args: str, atol: float) -> None:
    """Apply a plan to a new model and compare its outputs with recorded ones. Exit 1 when they differ."""
    from regraft.jobs.advice import spelled_for
    from regraft.jobs.factories import build_model
    from regraft.loading import apply_plan
    from regraft.reading import open_checkpoint
    from regraft.verifying import read_golden
    from regraft.verifying import verify as compare

    made = _plan_in(plan)
    built = build_model(model, _json_object(model_args))
    with spelled_for("command line"):
        apply_plan(made, open_checkpoint(made.checkpoint.path), built)
    recorded = read_golden(golden)
    _say(str(compare(built, recorded.inputs, recorded.outputs, atol=atol, intermediate=recorded.layers)))


def run_job(job: Path, *, settings: list[str] | None, overwrite: bool, skip_unreadable: bool) -> None:
    """The main job: restore, freeze, cache, train, evaluate, save, report."""
    from regraft.jobs.job import Job
    from regraft.recipe import reuse

    extra = ["out.overwrite=true"] * overwrite + ["data.skip_unreadable=true"] * skip_unreadable
    _say(reuse(Job.from_file(job, [*(settings or []), *extra]), tell=_say).summary())


def predict(run: Path, paths: list[Path], *, skip_unreadable: bool, as_json: bool, as_csv: bool) -> None:
    """The class and its probability for new images."""
    import csv

    from regraft.recipe import predict as predict_with

    if as_json and as_csv:
        _refuse_usage("predict", "--json and --csv are two forms of the answer: choose one")
    answers = predict_with(run, paths, skip_unreadable=skip_unreadable, tell=lambda line: _warn(f"note: {line}"))
    if as_json:
        _say(json.dumps([vars(answer) for answer in answers], indent=1))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "class", "probability"])
        writer.writerows([answer.name, answer.label, f"{answer.probability:.6f}"] for answer in answers)
    else:
        width = max((len(answer.name) for answer in answers), default=0)
        for answer in answers:
            _say(f"{answer.name:<{width}}  {answer.label}  {answer.probability:.3f}")


def demo(*, out: Path, overwrite: bool) -> None:
    """The main job on handwritten digits that ship with scikit-learn: no network, no files, under two minutes."""
    from regraft.demo import run_demo

    _say(run_demo(out, overwrite=overwrite).summary())


def cache_ls(folder: str) -> None:
    """What each entry belongs to, its size, and whether it is whole. Exit 1 when one has changed since."""
    from regraft.caches.maintenance import as_table, list_entries

    entries = list_entries(folder)
    _say(as_table(entries))
    if any(entry.state == "changed" for entry in entries):
        sys.exit(1)


def cache_verify(folder: str, *, key: str | None) -> None:
    """Read and hash every stored byte. Exit 1 when something is not what was written."""
    from regraft.caches.maintenance import verify_entries

    found = verify_entries(folder, [key] if key else [])
    for entry, problems in found.items():
        _say("\n  ".join([f"{entry}  {'changed' if problems else 'verified'}", *problems]))
    if any(found.values()):
        sys.exit(1)


def cache_clear(folder: str, *, key: str | None, older_than_days: float | None, keep_gb: float | None) -> None:
    """Remove entries by key, age or size; those that are being built stay."""
    from regraft.caches.maintenance import as_table, clear_entries

    age = None if older_than_days is None else older_than_days * 86400
    size = None if keep_gb is None else keep_gb * 1e9
    removed = clear_entries(folder, key=key, older_than_s=age, keep_bytes=size)
    _say("removed:\n" + as_table(removed) if removed else "nothing to remove")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line: a RegraftError prints without a traceback and exits with 1, wrong usage with 2.

    words  what was typed after `regraft`; None takes them from the process
    """
    typed = sys.argv[1:] if words is None else list(words)
    _write_anywhere()
    try:
        given = vars(_parser().parse_args(typed or ["--help"]))
        command = given.pop("command")
        with stoppable():
            command(**given)
    except BrokenPipeError:  # `regraft show … | head` has read enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (RegraftError, OSError) as error:
        _warn(f"{type(error).__name__}: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        _warn("Stopped; nothing half-written was left.")
        os._exit(INTERRUPTED)  # sys.exit waits for threads, and Python may end itself by the signal instead (-2)


def _write_anywhere() -> None:
    """Let a terminal or pipe that lacks a character get another one, and a closed output swallow all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> ArgumentParser:
    """All commands with their arguments."""
    parser = ArgumentParser(
        "regraft", description="Reuse pretrained layers: restore, freeze, compute once, train the rest."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = _adder(commands, show)
    checkpoint = {"type": Path, "help": "a checkpoint: file, folder, or TensorFlow prefix"}
    model_args = {"default": "{}", "metavar": "JSON", "help": "the factory's arguments"}
    again = {"action": "append", "metavar": "PATTERN"}
    add("checkpoint", **checkpoint)
    add("--json", dest="as_json", action="store_true", help="machine-readable")

    add = _adder(commands, plan)
    add("checkpoint", nargs="?", **checkpoint)
    add("--model", default="", metavar="SPEC", help=SPEC)
    add("--model-args", **model_args)
    add("--reuse", **again, help="layers to restore; may be given again")
    add("--fresh", **again, help="layers that stay new; may be given again")
    add("--rename", action="append", metavar="THEIRS=OURS", help="a regular expression; again for more")
    add("--layout", help="whose axis orders the arrays follow")
    add("--match", default="names", choices=("names", "structure"), help="names (the default) or structure")
    add("--adapt", action="append", metavar="PATTERN=WAY", help="make an array fit that does not: conv1=sum")
    add("--adopt", **again, help="settings to take over from the checkpoint: '.*' is all that can be")
    add("--accept", **again, help="settings that stay the model's own though they differ")
    add("--ema", action="store_true", help="use the moving averages of the weights")
    add("--out", type=Path, metavar="FILE", help="write the plan as JSON")
    add("--diff", type=Path, nargs=2, metavar="PLAN", help="what the second does otherwise, nothing else")
    add("--all", dest="show_all", action="store_true", help="a row for every array")

    add = _adder(commands, verify)
    add("plan", type=Path, help="a plan as JSON; its checkpoint must still be where the plan says")
    add("--model", required=True, metavar="SPEC", help=SPEC)
    add("--golden", type=Path, required=True, metavar="FILE", help="an .npz of x, y and layer.NAME: what the source "
        "framework recorded")  # fmt: skip
    add("--model-args", **model_args)
    add("--atol", type=float, default=1e-5, help="the largest absolute difference; 1e-5 unless told")

    add = _adder(commands, run_job, "reuse")
    add("job", type=Path, help="a job.toml")
    add("--set", dest="settings", action="append", metavar="SECTION.KEY=VALUE", help="again for more")
    add("--overwrite", action="store_true", help="replace the run folder if it exists")
    add("--skip-unreadable", action="store_true", help="go on without damaged images, with a note")

    add = _adder(commands, predict)
    add("run", type=Path, help="a run folder")
    add("paths", type=Path, nargs="+", help="images, folders of images, or .npz files")
    add("--json", dest="as_json", action="store_true", help="machine-readable, with every class's probability")
    add("--skip-unreadable", action="store_true", help="go on without damaged images, with a note")
    add("--csv", dest="as_csv", action="store_true", help="comma-separated: name, class, probability")

    add = _adder(commands, demo)
    add("--out", type=Path, default=Path("regraft-demo"), metavar="FOLDER", help="for the run and its report")
    add("--overwrite", action="store_true", help="replace the folder if it exists")

    _add_cache(commands)
    return parser


def _add_cache(commands: "_SubParsersAction[ArgumentParser]") -> None:
    """The commands of `regraft cache`."""
    summary = "Look at, check and clear stored features."
    cache = commands.add_parser("cache", help=summary, description=summary)
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for function in (cache_ls, cache_verify, cache_clear):
        add = _adder(inner, function, function.__name__.removeprefix("cache_"))
        add("folder", help="a feature folder, or a URL that fsspec knows")
        if function is not cache_ls:
            add("--key", help="one entry's key, or its beginning")
    add("--older-than-days", type=float, metavar="DAYS", help="to which nothing was added for so long")
    add("--keep-gb", type=float, metavar="GB", help="the oldest, until the rest is no larger")


def _adder(
    commands: "_SubParsersAction[ArgumentParser]", function: Callable[..., None], name: str = ""
) -> Callable[..., Any]:
    """A new command that calls the function and tells its docstring; gives what adds an argument to it."""
    told = str(function.__doc__)
    command = commands.add_parser(
        name or function.__name__, help=told.partition(".")[0], description=told, allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(command=function)
    return command.add_argument


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # a job tells what it does while it runs, also into a pipe


def _warn(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _refuse_usage(command: str, text: str) -> NoReturn:
    _warn(f"regraft {command}: error: {text}")
    sys.exit(2)


def _tell_differences(before: Path, after: Path) -> None:
    lines = _plan_in(before).diff(_plan_in(after))
    _say("\n".join(lines) if lines else "The plans do the same.")


def _plan_in(path: Path) -> "Plan":
    """The plan in a file. Raises JobError or PlanError that names the file."""
    from regraft.plan import Plan

    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path} cannot be read as a plan: {error}. `regraft plan … --out` writes one.") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise JobError(f"--model-args {text!r} is no JSON: {error}. Expected '{{\"num_classes\": 6}}'.") from error
    if not isinstance(value, dict):
        raise JobError(f"--model-args {text!r} is no JSON object. Expected '{{\"num_classes\": 6}}'.")
    return value


def _pairs(option: str, form: str, rules: list[str]) -> dict[str, str]:
    """What was given as one text each, taken apart at the first "="."""
    wrong = [rule for rule in rules if "=" not in rule]
    if wrong:
        example = {"rename": "'dnn/(.*)=\\1'", "adapt": "'conv1=sum'"}[option]
        raise JobError(f"--{option} {wrong[0]!r} is not of the form {form}, as in {example}.")
    return dict(tuple(rule.split("=", 1)) for rule in rules)  # type: ignore[misc]  # two parts, as just checked
