"""`regraft reuse`, `fill`, `predict`, `compare` and `demo`: run a job, use its model, see all on small data."""

import csv
import json
import os
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.cli.plans import MODEL_ARGS, json_arguments
from regraft.cli.printing import Commands, add_command, refuse_usage, say, warn
from regraft.foundation.wording import one_line

if TYPE_CHECKING:  # commands answer --help before this is imported
    from regraft.predicting import Answer


FORMATS = ("onnx", "torch-export", "safetensors", "timm", "hf", "keras", "tf1")  # of an export


def add_to(commands: Commands) -> None:
    """The commands and their arguments."""
    add = add_command(commands, run_job, "reuse")
    add("job", type=Path, help="a job.toml")
    add(
        "--set",
        dest="settings",
        action="append",
        metavar="SECTION.KEY=VALUE",
        help="override a key; repeatable",
    )
    add("--overwrite", action="store_true", help="replace the run folder if it exists")
    add("--resume", action="store_true", help="go on with a training that was interrupted")
    add("--learning-curve", metavar="N,N,…", help="also score trainings on so many labels, as [study] counts")
    add("--skip-unreadable", action="store_true", help="go on without damaged files, with a note")
    add("--cluster", choices=("auto", "ray", "none"), help="compute the features on Ray, as [cluster] engine")

    add = add_command(commands, fill)
    add("job", type=Path, help="a job.toml; its features are computed into [cache] folder, and nothing is trained")
    add("--set", dest="settings", action="append", metavar="SECTION.KEY=VALUE", help="override a key; repeatable")
    add("--share", metavar="N/COUNT", help="which of how many processes this is, from 0; else as the launcher tells")
    add("--wait", action="store_true", help="for the other processes, until all features are there")

    add = add_command(commands, advise)
    add("job", type=Path, help="a job.toml; its model is restored and looked at, and nothing is trained")
    add("--set", dest="settings", action="append", metavar="SECTION.KEY=VALUE", help="override a key; repeatable")
    add("--json", dest="as_json", action="store_true", help="machine-readable")
    add("--svg", type=Path, metavar="FILE", help="also write the chart")

    add = add_command(commands, predict)
    add("run", type=Path, help="a run folder")
    add("paths", type=Path, nargs="+", help="files of the model's kind, folders of them, tables, texts, or .npz files")
    add("--model", metavar="SPEC", help="build the model by this instead of the code in the run folder")
    add("--model-args", **MODEL_ARGS)
    add("--json", dest="as_json", action="store_true", help="machine-readable, with the probability of every class")
    add("--skip-unreadable", action="store_true", help="go on without damaged files, with a note")
    add("--csv", dest="as_csv", action="store_true", help="comma-separated: name, class, probability, or as the task")
    add("--masks", type=Path, metavar="FOLDER", help="for the masks of a model for segmentation")

    add = add_command(commands, evaluate)
    add("run", type=Path, help="a run folder")
    add("data", type=Path, help="labelled data in any form that a job takes")
    add(
        "--labels",
        action="append",
        metavar="COLUMN",
        help="column of the labels, if another than in training; repeatable",
    )
    add("--metric", dest="metrics", action="append", metavar="NAME", help="f1, auroc …; repeatable")
    add("--model", metavar="SPEC", help="build the model by this instead of the code in the run folder")
    add("--model-args", **MODEL_ARGS)
    add("--skip-unreadable", action="store_true", help="go on without damaged files, with a note")
    add("--json", dest="as_json", action="store_true", help="machine-readable, with the confusion and class names")

    _add_for_runs(commands)
    add = add_command(commands, demo)
    add("--out", type=Path, default=Path("regraft-demo"), metavar="FOLDER", help="for the run and its report")
    add("--overwrite", action="store_true", help="replace the folder if it exists")


def _add_for_runs(commands: Commands) -> None:
    """What is done with run folders that there are."""
    add = add_command(commands, compare)
    add("runs", type=Path, nargs="+", metavar="RUN", help="run folders; the others are compared with the first")
    add("--out", type=Path, metavar="FILE", help="also write an HTML page")
    add("--json", dest="as_json", action="store_true", help="machine-readable")

    add = add_command(commands, export)
    add("run", type=Path, help="a run folder")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("--out", type=Path, metavar="PATH", help="the file or folder to write; by default beside the run")
    add("--shape", metavar="3,224,224", help="of one input, where the run does not record it")
    add("--model", metavar="SPEC", help="build the model by this instead of the code in the run folder")
    add("--model-args", **MODEL_ARGS)


def run_job(
    job: Path, *, settings: list[str] | None, overwrite: bool, resume: bool, learning_curve: str | None,
    skip_unreadable: bool, cluster: str | None,
) -> None:  # fmt: skip
    """The main job: restore, freeze, cache, train, evaluate, save, report.

    Processes that torchrun or srun starts share the work: torchrun --nproc-per-node 2 -m regraft reuse job.toml
    """
    from regraft.errors import SaveError
    from regraft.jobs.job import Job
    from regraft.jobs.launching import is_first
    from regraft.jobs.unfinished import Unfinished
    from regraft.recipe import reuse

    extra = ["out.overwrite=true"] * overwrite + ["data.skip_unreadable=true"] * skip_unreadable
    if cluster:
        extra.append(f"cluster.engine={cluster}")
    if learning_curve:
        extra.append(f"study.counts=[{learning_curve}]")
    whole = Job.from_file(job, [*(settings or []), *extra])
    try:
        run = reuse(whole, resume=resume, tell=_say_if_possible)
        if is_first():
            say(run.summary())
    except BaseException as error:
        if not isinstance(error, SaveError) and Unfinished(whole.path(whole.out.folder)).has_epochs():
            warn(f"note: the finished epochs are kept; go on with: regraft reuse {job} --resume")
        raise


def fill(job: Path, *, settings: list[str] | None, share: str | None, wait: bool) -> None:
    """Compute a job's features in this process and any others, and train nothing; `reuse` finds them.

    Start it as often as there are processors, on all machines that see the folder of [cache]. A Slurm array needs no
    option: sbatch --array=0-15 --wrap "regraft fill job.toml"
    """
    from regraft.caches.options import Share
    from regraft.filling import fill as fill_features
    from regraft.jobs.job import Job

    number, _, count = (share or "").partition("/")
    if share and not (number.isdecimal() and count.isdecimal()):
        refuse_usage("fill", f"--share {share!r} is not two numbers, as in 3/16")
    chosen = Share(int(number), int(count)) if share else None
    fill_features(Job.from_file(job, settings or []), share=chosen, wait=wait, tell=_say_if_possible)


def advise(job: Path, *, settings: list[str] | None, as_json: bool, svg: Path | None) -> None:
    """How many layers of a job's model help a linear head on its training examples. No model is trained.

    One pass over the examples; a head is fitted at every place to cut. [advise] in the job has its options. Features
    are stored in the folder of [cache], if there is one.
    """
    from regraft.foundation.files import write_whole
    from regraft.jobs.job import Job
    from regraft.recipe import advise_on

    advice = advise_on(
        Job.from_file(job, settings or []), tell=lambda line: None if as_json else _say_if_possible(line)
    )
    if svg is not None:
        write_whole(svg, advice.svg().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode())
    say(json.dumps(advice.to_dict(), indent=1) if as_json else str(advice))


def _say_if_possible(text: str) -> None:
    """Print what goes on; a full disk under the log, or a reader that has gone, must not end hours of training."""
    try:
        say(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        warn("note: nobody reads the output any more; the run goes on.")
    except OSError as error:
        warn(f"note: the output cannot be written: {error.strerror}")


def predict(
    run: Path,
    paths: list[Path],
    *,
    model: str | None,
    model_args: str,
    skip_unreadable: bool,
    masks: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """The answers of a run's model for new inputs: classes, labels, numbers, tags or masks, by its task.

    Executes the code in the run folder that builds its model: only for runs that you trust.
    For any other run give --model SPEC, your own code; then nothing of the folder is executed.
    """
    from regraft.jobs.factories import model_by_spec
    from regraft.recipe import predict as predict_with

    if as_json and as_csv:
        refuse_usage("predict", "--json and --csv are two forms of the answer: choose one")
    answers = predict_with(
        run,
        paths,
        model=model_by_spec(model, json_arguments(model_args)) if model else None,
        skip_unreadable=skip_unreadable,
        masks=masks,
        tell=lambda line: warn(f"note: {line}"),
    )
    _print_answers(answers, as_json=as_json, as_csv=as_csv)


def _print_answers(answers: list["Answer"], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        say(json.dumps([answer.to_dict() for answer in answers], indent=1))
    elif as_csv:
        rows = [{"name": answer.name, **row} for answer in answers for row in answer.rows()]
        text = StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["name"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        say(text.getvalue().removesuffix("\n"))
    else:
        names = [one_line(answer.name) for answer in answers]
        width = max(map(len, names), default=0)
        for name, answer in zip(names, answers, strict=True):
            say(f"{name:<{width}}  {answer.text()}")


def evaluate(
    run: Path,
    data: Path,
    *,
    labels: list[str] | None,
    metrics: list[str] | None,
    model: str | None,
    model_args: str,
    skip_unreadable: bool,
    as_json: bool,
) -> None:
    """Score a run on other labelled data, prepared as for its training.

    Executes the code in the run folder that builds its model: only for runs that you trust.
    For any other run give --model SPEC, your own code; then nothing of the folder is executed.
    """
    from regraft.jobs.factories import model_by_spec
    from regraft.scoring_runs import score_run

    made = model_by_spec(model, json_arguments(model_args)) if model else None
    score = score_run(run, data, model=made, metrics=metrics, labels=labels or (), skip_unreadable=skip_unreadable)
    for note in score.notes:
        warn(f"note: {note}")
    say(json.dumps(score.to_dict(), indent=1) if as_json else str(score))


def compare(runs: list[Path], *, out: Path | None, as_json: bool) -> None:
    """Compare finished runs: accuracies side by side, and whether a difference is more than chance.

    ± is the standard error. Runs that were scored on the same examples are compared example by example.
    """
    from regraft.comparing import compare_runs

    comparison = compare_runs(runs)
    if out is not None:
        comparison.write_page(out)
    say(json.dumps(comparison.to_dict(), indent=1) if as_json else str(comparison))


def export(run: Path, *, to: str, out: Path | None, shape: str | None, model: str | None, model_args: str) -> None:
    """Write a run's model for use without regraft: onnx, torch-export, safetensors, timm, hf, keras, tf1.

    Executes the code in the run folder that builds its model: only for runs that you trust.
    For any other run give --model SPEC, your own code; then nothing of the folder is executed.
    """
    from regraft.exporting import export as write
    from regraft.jobs.factories import model_by_spec

    sizes = None if shape is None else [int(size) if size.strip().isdecimal() else 0 for size in shape.split(",")]
    if sizes is not None and not all(sizes):
        refuse_usage("export", f"--shape {shape!r} is no list of sizes, as in 3,224,224")
    built = model_by_spec(model, json_arguments(model_args)) if model else None
    say(f"written: {write(run, to, out, model=built, shape=sizes)}")  # type: ignore[arg-type]  # one of the choices


def demo(*, out: Path, overwrite: bool) -> None:
    """The main job on photographs and a checkpoint that ship with regraft: nothing is downloaded, under a minute."""
    from regraft.demo.running import run_demo

    say(run_demo(out, overwrite=overwrite, tell=_say_if_possible).summary())
