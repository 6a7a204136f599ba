"""`reuse`: the whole way, from a checkpoint file to a trained, evaluated, saved and reported model. Read this first."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.caches.features import Features
from regraft.caches.options import Share
from regraft.contracts.text import padding_of
from regraft.datasets.labelled import Labelled
from regraft.depths.depth_advice import DepthAdvice
from regraft.errors import DataError, SaveError
from regraft.evaluating import Score, evaluate
from regraft.examples import as_examples, call
from regraft.foundation.files import refuse_existing, utf8, whole_folder
from regraft.foundation.showing import html_text
from regraft.foundation.stopwatch import Stopwatch
from regraft.foundation.wording import counted
from regraft.freezing import frozen_names
from regraft.jobs.advice import spelled, spelled_for
from regraft.jobs.features import features_of
from regraft.jobs.heads import advice_for, needs_advice, with_head
from regraft.jobs.job import Job
from regraft.jobs.launching import joined
from regraft.jobs.layers import freeze_layers
from regraft.jobs.method import monitored, request_of, solvers_of, watched
from regraft.jobs.parts import cached_besides, inputs_of, notes_of, open_parts, refuse_missing_data
from regraft.jobs.planned import planned_model
from regraft.jobs.preparation import refuse_unasked_preparation
from regraft.jobs.studies import Study, refuse_impossible_studies, studies_of
from regraft.jobs.understood import refuse_misfit, shared_notes, understood
from regraft.jobs.unfinished import Unfinished
from regraft.learning.history import History
from regraft.learning.loggers import CsvLogger, loggers_named
from regraft.learning.ranks import Ranks
from regraft.learning.request import Request
from regraft.learning.solvers import Solver
from regraft.loading import apply_plan
from regraft.plan import Plan
from regraft.predicting import Answer
from regraft.predicting import predict as predict_with
from regraft.reporting import write_report
from regraft.reports.outcomes import Outcomes, outcomes_of
from regraft.reports.record import PARTS, TRAIN, RunRecord, machine_text, parameters_of, score_text
from regraft.reports.task_results import TaskResult, task_result_of
from regraft.saving import (
    ANSWERS_FILE,
    METRICS_FILE,
    REPORT_FILE,
    Factory,
    file_hashes,
    foreign_entries,
    load,
    read_record,
    versions,
    write_model,
)  # fmt: skip
from regraft.splitting import Head, split
from regraft.tensors.trees import Inputs
from regraft.training import train

Tell = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class Run:
    """A finished job: its folder, the trained model and all that the report shows."""

    folder: Path
    model: nn.Module
    record: RunRecord

    @property
    def metrics(self) -> dict[str, object]:
        """The run's numbers, as in metrics.json."""
        return self.record.metrics()

    def __repr__(self) -> str:
        return f"<Run in {self.folder}: {'; '.join(f'{part} {score}' for part, score in self.record.scores.items())}>"

    def _repr_html_(self) -> str:
        return html_text(self.summary())

    def summary(self) -> str:
        """The result in a few lines: accuracies, durations, where the model and the report are."""
        noun = self.record.result.noun if self.record.result else "example"
        lines = [
            f"{part:<10} {score_text(score)} ({counted(score.count, noun)})"
            for part, score in reversed(self.record.shown_scores.items())
        ]
        lines += [f"{part:<10} {seconds:.2f} s" for part, seconds in self.record.seconds.items()]
        return "\n".join([*lines, f"model      {self.folder}", f"report     {self.folder / REPORT_FILE}"])


@spelled_for("job")
def reuse(job: Job | str | Path, *, resume: bool = False, tell: Tell = lambda line: None) -> Run:
    """Run a whole job and leave its run folder, whole or not at all.

    job     a Job, or the path of a job.toml
    resume  go on with a training by gradient steps that was interrupted: its finished epochs are in RUN.unfinished
    tell    is given sentences for the user as the work goes on: the plan, the cut, the cost of the cache

    Processes that torchrun or srun has started together share the features and the training; the first one writes.

    Raises the error of the step that cannot go on; no run folder is left then.
    """
    job = job if isinstance(job, Job) else Job.from_file(Path(job))
    out = job.path(job.out.folder)
    with joined() as ranks:
        refuse_existing(out, overwrite=job.out.overwrite, foreign=foreign_entries, keep=inputs_of(job))
        unfinished = Unfinished(out, resume=resume, overwrite=job.out.overwrite)
        if not ranks.is_first:
            return _reuse_in(out, job, unfinished, lambda line: None, ranks)
        with unfinished:
            return _reuse_in(out, job, unfinished, tell, ranks)


def _reuse_in(out: Path, job: Job, unfinished: Unfinished, tell: Tell, ranks: Ranks) -> Run:
    """All steps, in their order; of several processes the first alone writes."""
    watch = Stopwatch()
    torch.manual_seed(job.train.seed)  # the fresh layers' initial weights

    ready = prepared(job, watch, tell)
    trained, examples = with_features(ready, job, watch, tell, Share(ranks.rank, ranks.count))
    is_cached = isinstance(trained, Head)
    request, pad = ready.request, None if is_cached else padding_of(ready.data[TRAIN].preparation.text)
    studies: list[Study] = []
    if job.study.folds or job.study.counts:
        with watch("studies"):
            studies = studies_of(job.study, trained, examples, request, ready.solvers, pad)
        tell("\n".join(map(str, studies)))
    loggers = [CsvLogger(unfinished.epochs), *loggers_named(job.train.log, out.name, unfinished.folder)]
    with watch("training"):
        history = train(
            trained,
            examples[TRAIN],
            validation=examples.get("validation"),
            task=request.task,
            loss=request.loss,
            metrics=request.metrics,
            pad=pad,
            solver=watched(ready.solvers, unfinished.checkpoints(), loggers),
            seed=job.train.seed,
        )
    for stage in history.stages:
        tell(str(stage))
    with watch("evaluation"):
        evaluated = evaluations(trained, examples, ready)

    record = record_of(job, ready, examples[TRAIN], history, evaluated, watch.seconds)
    record = replace(record, studies=tuple(studies))
    if ranks.is_first:
        write_run(out, job, ready.model, record, ready.data[TRAIN], unfinished)
    ranks.wait()
    return Run(out, ready.model, record)


@dataclass(frozen=True)
class Prepared:
    """What is trained on what: the model with its restored layers, and all that the job says of its training.

    inputs   a small batch, on which the model is split
    request  task, loss and metrics
    """

    model: nn.Module
    plan: Plan
    data: Mapping[str, Labelled]
    notes: list[str]
    advice: DepthAdvice | None
    inputs: Inputs
    request: Request
    solvers: list[Solver]


def prepared(job: Job, watch: Stopwatch, tell: Tell) -> Prepared:
    """The restored model with its head, and the data; what does not fit is refused before anything is computed."""
    with watch("reading"):
        start = restored(job, tell)
    train_data, advice = start.data[TRAIN], None
    if needs_advice(job):
        with watch("advice"):
            advice = advice_for(start.model, train_data, start.plan, job)
        tell(str(advice))
    with watch("reading"):
        model = with_head(start.model, train_data, start.plan, job, advice)
        inputs, labels = first_batch(train_data)
        request, solvers = request_of(job.train, train_data), solvers_of(job.train)
        monitored(solvers, request)
        refuse_impossible_studies(job.study, solvers)
        refuse_misfit(model, inputs, labels, train_data, request)
        tell("\n".join([understood(start.data, inputs), *(f"note: {note}" for note in start.notes)]))
    return Prepared(model, start.plan, start.data, start.notes, advice, inputs, request, solvers)


def with_features(
    ready: Prepared, job: Job, watch: Stopwatch, tell: Tell, share: Share
) -> tuple[nn.Module | Head, Mapping[str, Labelled | Features]]:
    """What is trained on what: the head on features, or the whole model where caching is off or does not pay."""
    if job.cache.use is False:
        return ready.model, ready.data
    trunk, head = call(partial(split, ready.model), ready.inputs)
    tell(str(trunk.cut))
    with watch("features"):
        features = features_of(trunk, head, ready.data, job, tell, share)
    return (head, features) if features else (ready.model, ready.data)


@dataclass(frozen=True)
class Evaluations:
    """The scores of each part; and of the main one, which the report shows in detail, every answer."""

    scores: Mapping[str, Score]
    outcomes: Outcomes | None
    result: TaskResult | None


def evaluations(trained: nn.Module | Head, examples: Mapping[str, Labelled | Features], ready: Prepared) -> Evaluations:
    """The trained model on each part of the data.

    The training examples are scored too where that costs no pass through the frozen layers.
    """
    with_train = len(examples) > 1 and isinstance(trained, Head)
    parts = [part for part in examples if part != TRAIN or with_train]
    scores = {part: evaluate(trained, examples[part], metrics=ready.request.metrics) for part in parts}
    main = next((part for part in PARTS if part in scores), None)
    if main is None:
        return Evaluations(scores, None, None)
    outcomes = outcomes_of(trained, examples[main], ready.data[main], main)
    return Evaluations(scores, outcomes, task_result_of(trained, examples[main], ready.data, main, scores[main]))


@spelled_for("job")
def advise_on(job: Job | str | Path, *, tell: Tell = lambda line: None) -> DepthAdvice:
    """How many layers a job should reuse, on its training examples: `reuse` up to the restored model, and no further.

    Raises as `reuse`.
    """
    job = job if isinstance(job, Job) else Job.from_file(Path(job))
    torch.manual_seed(job.train.seed)
    start = restored(job, tell)
    refuse_no_classes(start.data["train"])
    return advice_for(start.model, start.data["train"], start.plan, job)


@dataclass(frozen=True)
class Restored:
    """What training starts from: a model with its restored and frozen layers, the plan, the data, and notes on them."""

    model: nn.Module
    plan: Plan
    data: Mapping[str, Labelled]
    notes: list[str]


def restored(job: Job, tell: Tell) -> Restored:
    """The job's model after its plan, and its data; the plan is printed."""
    refuse_missing_data(job)
    planned = planned_model(job)
    model, plan = planned.model, planned.plan
    tell(plan.table(spell=lambda advice: spelled(advice, "job")))
    plan.check()
    apply_plan(plan, planned.checkpoint, model)
    freeze_layers(model, job)
    data = open_parts(job)
    unasked = refuse_unasked_preparation(job, model, data["train"], planned.image)
    if needs_advice(job):
        refuse_no_classes(data["train"])
    return Restored(model, plan, data, [*planned.notes, *notes_of(data), *unasked, *shared_notes(data)])


def predict(
    run: str | Path,
    paths: Sequence[Path],
    *,
    model: nn.Module | None = None,
    skip_unreadable: bool = False,
    masks: Path | None = None,
    tell: Tell = lambda line: None,
) -> list[Answer]:
    """The answers of a run's model for files, folders, tables or .npz files, prepared as for its training.

    model            a module of your own for the run's weights; without it the run's recorded factory is executed,
                     code in the run folder for instance: only for runs that you trust
    skip_unreadable  leave out damaged files instead of refusing
    masks            the folder for the masks of a model for segmentation
    tell             is given a sentence that names those that were left out

    Raises SaveError when the folder is no run with an input contract and classes, DataError for unusable paths.
    """
    record = read_record(run)
    task = record.task or "classification"
    if task not in ("regression", "language-model", "several") and not record.classes:
        raise SaveError(f"{run} does not record the classes of its model. Save it with classes=[…] to predict by it.")
    # None: nothing is known, as for models saved by earlier versions
    if record.task is None and record.outputs not in ("classes", None):
        raise SaveError(
            f"The model of {run} was trained with the loss {record.outputs}, so its outputs need not be scores of "
            "classes of which one applies, as predict takes them. Call the model in Python; if they are such scores, "
            'save it with outputs="classes".'
        )
    return predict_with(
        load(run, model=model),
        paths,
        record.preparation_in(Path(run)),
        replace(record.target, task=task),
        skip_unreadable=skip_unreadable,
        masks=masks,
        tell=tell,
    )


def refuse_no_classes(dataset: Labelled) -> None:
    """Raise DataError for labels on which nothing can be advised."""
    if dataset.target.task != "classification":
        raise DataError(
            f"The task of these data is {dataset.target.task}. How many layers to reuse is advised for one class per "
            "example; choose the layers for other tasks yourself, in [freeze]."
        )


def first_batch(dataset: Labelled, count: int = 2) -> tuple[Inputs, Any]:
    """A small batch to record and prove the split on; two examples, because BatchNorm cannot normalise one."""
    return as_examples(dataset).gather(torch.arange(min(count, len(dataset))))


def record_of(
    job: Job,
    ready: Prepared,
    trained_on: Labelled | Features,
    history: History,
    evaluated: Evaluations,
    seconds: Mapping[str, float],
) -> RunRecord:
    """All that the report and metrics.json say about the run."""
    plan, data = ready.plan, ready.data
    features = trained_on if isinstance(trained_on, Features) else None
    cost = features.cost if features else None
    rounding = features.built.rounding if features else {}
    runtime_notes = [features.built.runtime.note] if features and features.built.runtime.note else []
    precision_notes = [f"features kept in {job.cache.precision} differ: {name}, {by}" for name, by in rounding.items()]
    return RunRecord(
        title=f"{job.data.train} with the layers of {Path(job.checkpoint.path).name}",
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=job.source,
        versions=versions(),
        machine=machine_text(),
        checkpoint=job.checkpoint.path,
        files=file_hashes(plan),
        plan=plan,
        frozen=tuple(frozen_names(ready.model)),
        parameters=parameters_of(ready.model),
        cut=features.cut if features else None,
        cost=f"{cost} {cached_besides(data)}" if cost else "",
        history=history,
        scores=evaluated.scores,
        outcomes=evaluated.outcomes,
        result=evaluated.result,
        advice=ready.advice,
        classes=data[TRAIN].classes,
        counts={part: counts for part, dataset in data.items() if (counts := _class_counts(dataset))},
        seconds=seconds,
        notes=tuple(dict.fromkeys([*plan.notes, *history.notes, *ready.notes, *runtime_notes, *precision_notes])),
    )


def _class_counts(dataset: Labelled) -> tuple[int, ...]:
    """How many examples each class has; () for labels of any other kind."""
    numbers = dataset.class_numbers()
    return () if numbers is None else tuple(torch.bincount(numbers, minlength=len(dataset.classes)).tolist())


def write_run(
    out: Path, job: Job, model: nn.Module, record: RunRecord, trained_on: Labelled, unfinished: Unfinished
) -> None:
    """Write the run folder: the model with its provenance, metrics.json and report.html. Whole or not at all."""
    with whole_folder(out, overwrite=job.out.overwrite, foreign=foreign_entries, keep=inputs_of(job)) as folder:
        write_model(
            model,
            folder,
            plan=record.plan,
            inputs=trained_on.preparation,
            classes=record.classes,
            target=trained_on.target,
            factory=Factory(job.model.factory, job.model.args, job.folder),
        )
        (folder / METRICS_FILE).write_bytes(utf8(json.dumps(record.metrics(), indent=1)))
        if record.outcomes:
            (folder / ANSWERS_FILE).write_bytes(utf8(record.outcomes.to_csv(record.classes)))
        if record.result and record.result.answers:
            (folder / ANSWERS_FILE).write_bytes(utf8(record.result.to_csv()))
        unfinished.copy_to(folder)
        write_report(folder / REPORT_FILE, record)
