"""`reuse`: the whole way, from a checkpoint file to a trained, evaluated, saved and reported model. Read this first."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.caching import cache_features
from regraft.cuts.frozen import names_of
from regraft.datasets.augmented import Augmented
from regraft.datasets.labelled import Chosen, Labelled, pick_per_class, stratified_split
from regraft.datasets.opening import open_data
from regraft.errors import DataError, DoesNotPayError, PatternError, TrainError
from regraft.evaluating import evaluate
from regraft.examples import as_examples
from regraft.files import refuse_existing, whole_folder
from regraft.freezing import freeze, frozen_names
from regraft.inputs import InputContract
from regraft.jobs.advice import rewritten, spelled_for
from regraft.jobs.factories import build_model
from regraft.jobs.job import Job
from regraft.learning.stages import check_schedule
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.patterns import WHOLE_NAMES, as_patterns, choose
from regraft.predicting import Prediction
from regraft.predicting import predict as predict_with
from regraft.reading import open_checkpoint
from regraft.reporting import write_report
from regraft.reports.record import RunRecord
from regraft.saving import Factory, load, load_record, write_model
from regraft.schedules import EPOCHS
from regraft.splitting import split
from regraft.summarising import metrics_of, record_of
from regraft.training import train
from regraft.wording import as_toml, counted

REPORT_FILE, METRICS_FILE = "report.html", "metrics.json"


@dataclass(frozen=True)
class Run:
    """A finished job: its folder, the trained model and all that the report shows."""

    folder: Path
    model: nn.Module
    record: RunRecord
    metrics: dict[str, Any] = field(repr=False)

    def summary(self) -> str:
        """What a person wants to know at the end, in a few lines."""
        lines = [
            f"{name:<10} accuracy {part.accuracy:.4f} ± {part.standard_error:.4f} ({counted(part.count, 'example')})"
            for name, part in (("validation", self.record.validation), ("test", self.record.test))
            if part is not None
        ]
        lines += [f"{name:<10} {seconds:.2f} s" for name, seconds in self.record.seconds.items()]
        return "\n".join([*lines, f"model      {self.folder}", f"report     {self.folder / REPORT_FILE}"])


@spelled_for("job")
def reuse(job: Job | str | Path, *, tell: Callable[[str], None] = lambda line: None) -> Run:
    """Run a whole job and leave its run folder, whole or not at all.

    job   a Job, or the path of a job.toml
    tell  is given sentences for the user as the work goes on: the plan, the cut, the cost of the cache

    Raises the error of the step that cannot go on; no run folder is left then.
    """
    job = job if isinstance(job, Job) else Job.from_file(Path(job))
    out = job.path(job.out.folder)
    refuse_existing(out, overwrite=job.out.overwrite)
    watch = Stopwatch()
    torch.manual_seed(job.train.seed)  # the fresh layers' initial weights

    with watch("reading"):
        refuse_missing_data(job)
        model = build_model(job.model.factory, job.model.args, folder=job.folder)
        refuse_unknown_layers(model, job)
        checkpoint = open_checkpoint(job.path(job.checkpoint.path))
        plan = plan_reuse(checkpoint, model, **vars_of(job.plan))
        tell(rewritten(str(plan), "job"))
        plan.check()
        apply_plan(plan, checkpoint, model)
        freeze_layers(model, job)
        data = open_parts(job)

    trained: Any = model
    examples: dict[str, Any] = dict(data)
    cut = None
    if job.cache.use is not False:
        trunk, head = split(model, *first_inputs(data["train"]))
        tell(str(trunk.cut))
        with watch("features"):
            features = features_of(trunk, head, data, job, tell)
        if features:
            trained, examples, cut = head, features, trunk.cut
    with watch("training"):
        history = train(trained, examples["train"], validation=examples.get("validation"), **vars_of(job.train))
    for stage in history.stages:
        tell(str(stage))
    with watch("evaluation"):
        scores = {part: evaluate(trained, examples[part]) for part in examples if part != "train"}

    record = record_of(
        title=job.folder.resolve().name,
        checkpoint_path=job.checkpoint.path,
        command=job.source,
        checkpoint=checkpoint,
        plan=plan,
        model=model,
        frozen=frozen_names(model),
        cut=cut,
        cost=f"{cost} {cached_besides(data)}" if (cost := getattr(examples["train"], "cost", None)) else "",
        history=history,
        scores=scores,
        classes=data["train"].classes,
        seconds=watch.seconds,
        notes=notes_of(data) + (precision_notes(examples["train"], job.cache.precision) if cut is not None else []),
    )
    metrics = metrics_of(record)
    with whole_folder(out, overwrite=job.out.overwrite) as part_folder:
        write_model(
            model,
            part_folder,
            plan=plan,
            inputs=job.input,
            classes=data["train"].classes,
            factory=Factory(job.model.factory, job.model.args, job.folder),
        )
        (part_folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1))
        write_report(part_folder / REPORT_FILE, record)
    return Run(out, model, record, metrics)


def predict(
    run: str | Path,
    paths: Sequence[Path],
    *,
    skip_unreadable: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Prediction]:
    """The answers of a run's model for images, folders of images or .npz files.

    skip_unreadable  leave out damaged images instead of refusing
    tell             is given a sentence that names those that were left out

    Raises SaveError when the folder is no run with an input contract and classes, DataError for unusable paths.
    """
    saved = load_record(run)
    contract = saved.inputs or InputContract()
    return predict_with(load(run), paths, contract, saved.classes, skip_unreadable=skip_unreadable, tell=tell)


def refuse_missing_data(job: Job) -> None:
    """Raise DataError that names every path of [data] at which there is nothing."""
    given = {name: getattr(job.data, name) for name in ("train", "validation", "test")}
    missing = {name: path for name, path in given.items() if isinstance(path, str) and not job.path(path).exists()}
    if missing:
        told = [f"  [data] {name} = {as_toml(path)}: {job.path(path)}" for name, path in missing.items()]
        raise DataError("\n".join(["There are no data at:", *told]))


def refuse_unknown_layers(model: nn.Module, job: Job) -> None:
    """Raise PatternError with every pattern of [freeze] and of the schedule that matches nothing in the model."""
    given = {"[freeze] layers": job.freeze.layers, "[freeze] trainable": job.freeze.trainable}
    given |= {f"[train] schedule, epoch {epoch}": named for epoch, named in (job.train.schedule or {}).items()}
    problems = []
    for key, patterns in given.items():
        try:
            choose(names_of(model), patterns or ())
        except PatternError as error:
            problems += [f"  {key}: {line}" for line in str(error).splitlines()[:-1]]
    if problems:
        raise PatternError("\n".join(["The job names layers that the model does not have.", *problems, WHOLE_NAMES]))


def open_parts(job: Job) -> dict[str, Labelled]:
    """The job's examples: train, and validation and test where the job has them."""
    skip = job.data.skip_unreadable
    whole = open_data(job.path(job.data.train), job.input, skip_unreadable=skip)
    parts: dict[str, Labelled] = {"train": whole}
    if isinstance(job.data.validation, str):
        path = job.path(job.data.validation)
        parts["validation"] = open_data(path, job.input, classes=whole.classes, skip_unreadable=skip)
    elif job.data.validation >= 1:
        first = round(job.data.validation)
        if first >= len(whole):
            raise DataError(f"data.validation takes the first {first} examples, but there are only {len(whole)}.")
        order = torch.arange(len(whole))
        parts = {"train": Chosen(whole, order[first:]), "validation": Chosen(whole, order[:first])}
    elif job.data.validation > 0:
        rest, held_out = stratified_split(whole.labels, job.data.validation, seed=job.train.seed)
        parts = {"train": Chosen(whole, rest), "validation": Chosen(whole, held_out)}
    if job.data.per_class:
        train_part = parts["train"]
        parts["train"] = Chosen(train_part, pick_per_class(train_part.labels, job.data.per_class, seed=job.train.seed))
    if job.data.test is not None:
        parts["test"] = open_data(job.path(job.data.test), job.input, classes=whole.classes, skip_unreadable=skip)
    return parts


def features_of(
    trunk: Any, head: Any, data: Mapping[str, Labelled], job: Job, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The cached features of each part of the data; none when caching does not pay and the job leaves the choice."""
    store = job.path(job.cache.folder) if job.cache.folder else None
    epochs = (job.train.epochs or EPOCHS) if job.cache.use == "auto" else None
    features: dict[str, Any] = {}
    for part, dataset in data.items():
        views = job.cache.views if part == "train" else 1  # what is measured is never augmented
        drawn = Augmented(dataset, flip=job.cache.flip, shift=job.cache.shift) if views > 1 else dataset
        try:
            features[part] = cache_features(
                trunk,
                drawn,
                store,
                head=head,
                batch_size=job.cache.batch_size,
                precision=job.cache.precision,
                views=views,
                epochs=epochs if part == "train" else None,
                tell=tell if part == "train" else None,
            )
            if part == "train" and features[part].cost is not None and (others := cached_besides(data)):
                tell(others)
        except DoesNotPayError as error:
            tell(f"{error}\nTraining without a cache; cache.use = true builds it all the same.")
            return {}
    return features


def cached_besides(data: Mapping[str, Labelled]) -> str:
    """What the cost, which is of the training data, does not count; "" when there is nothing else."""
    others = [f"{counted(len(dataset), 'example')} for {part}" for part, dataset in data.items() if part != "train"]
    return f"That is the training data alone; {' and '.join(others)} are cached besides." if others else ""


def notes_of(data: Mapping[str, Labelled]) -> list[str]:
    """What was skipped or assumed in the data; once where parts come from one folder."""
    first_part = {note: part for part, dataset in reversed(list(data.items())) for note in dataset.notes}
    return [f"{part}: {note}" for note, part in first_part.items()]


def precision_notes(features: Any, precision: str) -> list[str]:
    """What keeping the features in a lower precision changed on a sample; nothing when they are exact."""
    return [f"features kept in {precision} differ: {name}, {told}" for name, told in features.built.rounding.items()]


def freeze_layers(model: nn.Module, job: Job) -> None:
    """Freeze what the job says; when it says nothing, what its schedule never trains, without one nothing.

    Raises TrainError when nothing is left to train, and for a schedule that cannot be followed: now, not after hours
    of features.
    """
    chosen = {name: value for name, value in vars_of(job.freeze).items() if value is not None}
    schedule = job.train.schedule
    if schedule and not chosen:
        chosen = {"trainable": [pattern for patterns in schedule.values() for pattern in as_patterns(patterns)]}
    if chosen:
        freeze(model, **chosen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainError("[freeze] leaves nothing to train: all parameters are frozen. Leave the new layers out of it.")
    if schedule is not None:
        check_schedule(model, schedule, job.train.epochs or EPOCHS)


def first_inputs(dataset: Labelled, count: int = 2) -> tuple[Any, ...]:
    """A small batch to record and prove the split on; two examples, because BatchNorm cannot normalise one."""
    inputs, _ = as_examples(dataset).gather(torch.arange(min(count, len(dataset))))
    return inputs if isinstance(inputs, tuple) else (inputs,)


def vars_of(section: Any) -> dict[str, Any]:
    """A job section's values by name, as the arguments of its step."""
    return {name: getattr(section, name) for name in section.__dataclass_fields__}


class Stopwatch:
    """Where the time went: seconds by the name of the part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the block's duration to the part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began
