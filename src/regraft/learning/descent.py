"""Gradient steps: the epochs of one or several candidates on the same batches. The best weights stay in the model."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from regraft.errors import TrainError
from regraft.examples import Batch
from regraft.foundation.progress import progress_bar
from regraft.foundation.wording import counted
from regraft.learning.batches import Epoch
from regraft.learning.candidate import CandidateRun, OwnState, best_of
from regraft.learning.eager_step import EagerStep, TrainingStep
from regraft.learning.history import History, TrainingInterrupted
from regraft.learning.metrics import GivenMetrics
from regraft.learning.objective import Objective
from regraft.learning.ranks import ALONE, Ranks
from regraft.learning.resuming import Watch
from regraft.learning.scoring import Score, score
from regraft.learning.stages import Stages
from regraft.learning.traced_step import TracedStep
from regraft.tasks.task import LabelCheck
from regraft.tensors.keeping import kept_generators

Trace = Callable[[EagerStep, Epoch, int], TracedStep]
BAR_S = 0.25  # between updates of the progress bar
BATCHES_AT_ONCE = 16  # that are kept in memory while several candidates take their turns


def descend(
    runs: Sequence[CandidateRun], stages: Stages, objective: Objective, check: LabelCheck | None, *,
    metrics: GivenMetrics, trace: Trace | None, prepare: Callable[[CandidateRun, int], None], watch: Watch,
) -> History:  # fmt: skip
    """Train all candidates, and leave the weights of the best one in the model.

    check  what the labels of the first epoch must pass; None where all labels have passed
    trace    gives a faster form of a step, for the batches of an epoch and so many epochs; None keeps the eager step
    prepare  is called with each candidate and the number of updates before the first one
    watch    keeps the state after each epoch, or puts that of an interrupted training back
    """
    first = stages.source.epoch(0)
    for run in runs:
        run.own = OwnState() if len(runs) > 1 else run.own
        prepare(run, stages.epochs * -(-len(first.indices) // run.settings.accumulate))
    steps = stages.epochs * len(first.indices)
    with best_weights_kept(runs), progress_bar("training", steps) as advance:
        start = watch.resume(runs, stages)
        for number in range(start, stages.epochs):
            running = [run for run in runs if run.progress.is_running]
            if not running:
                break
            if number in stages or number == start:
                watch.notes += begin_stage(running, stages, stages.first_epoch(number), trace, watch)
            began = time.perf_counter()
            epoch = stages.source.epoch(number) if number else first
            watch.notes += [note for run in running if (note := refreshed(run.step, number))]
            watch.put_back_generators()
            run_epoch(running, epoch, check, number, advance)
            watch.seconds.append(time.perf_counter() - began)
            check = None
            for run in running:
                _score(run, stages, objective, metrics, number, epoch)
            best = best_of(runs)
            watch.epoch_end(runs, stages, best)
            advance(0, note=str(best.progress))
    return history_of(runs, stages, list(dict.fromkeys(watch.notes)), watch.seconds)


def begin_stage(
    runs: Sequence[CandidateRun], stages: Stages, number: int, trace: Trace | None, watch: Watch
) -> list[str]:
    """Continue with what this stage trains, by the fastest step that is proven equal; a sentence names the step."""
    if number:  # the first stage has begun before the options were tried out on it
        with kept_generators():
            stages.enter(number)
    for run in runs:
        run.begin(stages.learner)
    watch.put_back(runs)
    stages.learner.model.train()
    if trace is None:
        return [_note_of_eager(runs[0])]
    epoch, notes = stages.source.epoch(number), list[str]()
    for run in runs:
        with run.in_model():
            run.step = traced = trace(run.eager, epoch, stages.epochs_of(number))
            notes.append(traced.note)
    return list(dict.fromkeys(notes))


def _note_of_eager(run: CandidateRun) -> str:
    if run.ranks.are_several:
        return f"eager step: {run.ranks.count} processes take a part of each batch, and their gradients are summed"
    return "eager step: several batches make one update" if run.adds_gradients else "eager step, as passed"


def refreshed(step: TrainingStep, epoch: int) -> str:
    """Let a traced step notice what was changed since the last epoch; a sentence where it runs eagerly from now on."""
    return step.use_eager_if_changed(epoch) if isinstance(step, TracedStep) else ""


def _score(
    run: CandidateRun, stages: Stages, objective: Objective, metrics: GivenMetrics, number: int, epoch: Epoch
) -> None:
    """The validation after an epoch, of a candidate that has not diverged in it."""
    if run.progress.is_running:
        with run.in_model(), run.scored_weights(number, epoch):
            run.finish_epoch(validation_score(stages, objective, metrics, run.ranks))


def run_epoch(
    runs: Sequence[CandidateRun], epoch: Epoch, check: LabelCheck | None, number: int, advance: Callable[..., None]
) -> None:
    """Each candidate steps through all batches, which are fetched once. One of several that diverges stops alone."""
    alone = len(runs) == 1
    runs[0].learner.model.train()
    batches = _with_progress(epoch, advance)
    size = BATCHES_AT_ONCE * runs[0].settings.accumulate
    for group in [batches] if alone else _groups(batches, size):
        for run in runs:
            if run.progress.is_running:
                with run.in_model(), run.failing(alone=alone):
                    (run.train_on_groups if run.adds_gradients else run.train_on)(group, check, number)
    if check is not None:
        for seen in runs[0].ranks.gathered(check) if runs[0].ranks.are_several else ():
            check.merge(seen)
        check.finish()
    for run in runs:
        if run.progress.is_running:
            with run.in_model(), run.failing(alone=alone):
                run.refuse_diverged(number)


def validation_score(stages: Stages, objective: Objective, metrics: GivenMetrics, ranks: Ranks = ALONE) -> Score | None:
    """The score on the validation examples; None without."""
    if stages.held_out is None:
        return None
    size = stages.source.batch_size
    return score(stages.learner, stages.held_out, objective, batch_size=size, metrics=metrics, ranks=ranks)


def history_of(runs: Sequence[CandidateRun], stages: Stages, notes: Sequence[str], seconds: Sequence[float]) -> History:
    """The record of the candidate whose weights stay. Raises TrainError where no epoch of any was finished."""
    best = best_of(runs)
    progress, summary = best.progress, best.summary()
    if not progress.losses:
        raise TrainError("No candidate could be trained:\n" + "\n".join(run.progress.failure for run in runs))
    return History(
        train_loss=summary.train_loss,
        validation_loss=summary.validation_loss,
        validation_accuracy=summary.validation_accuracy,
        validation_metrics=summary.validation_metrics,
        monitor=best.settings.monitor.name,
        seconds=tuple(seconds[: len(progress.losses)]),
        best_epoch=progress.best_epoch,
        stopped_because=summary.stopped_because,
        lr=summary.lr,
        weight_decay=summary.weight_decay,
        candidates=tuple(run.summary() for run in runs) if len(runs) > 1 else (),
        stages=tuple(stages.begun),
        notes=(*notes, *stages.notes()),
    )


@contextmanager
def interrupts_with_history(
    runs: Sequence[CandidateRun], stages: Stages, watch: Watch, described: Callable[[History], History]
) -> Iterator[None]:
    """A KeyboardInterrupt of the block says what was reached, with the history of the finished epochs.

    described  completes a history

    Raises TrainingInterrupted where an epoch is finished.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        best = best_of(runs).progress
        # A kind of the user's own stays what it is, and so does the signal by which a command was stopped.
        if not best.losses or type(error) is not KeyboardInterrupt or isinstance(next(iter(error.args), ""), int):
            raise
        where = f"interrupted after {counted(len(best.losses), 'finished epoch')}"
        history = history_of(runs, stages, list(dict.fromkeys(watch.notes)), watch.seconds)
        way = "" if watch.file else ' Pass Steps(checkpoints="folder") to be able to go on after an interruption.'
        reason = f"{error}. " if error.args else ""
        kept = f"The model has the weights of epoch {best.kept_epoch}, counted from 0."
        raise TrainingInterrupted(
            f"{reason}The training was {where}. {kept} The exception has the `history` of these epochs.{way}",
            described(replace(history, stopped_because=where)),
        ) from error


@contextmanager
def best_weights_kept(runs: Sequence[CandidateRun]) -> Iterator[None]:
    """However the block ends, the model has afterwards the weights that the best candidate kept."""
    try:
        yield
    finally:
        best = best_of(runs)
        best.learner.restore(best.kept)


def _with_progress(batches: Iterable[Batch], advance: Callable[..., None]) -> Iterator[Batch]:
    """The batches as they come; the progress bar is updated a few times a second."""
    updated, count = time.perf_counter(), 0
    for batch in batches:
        yield batch
        count += 1
        if time.perf_counter() - updated > BAR_S:
            advance(count)
            updated, count = time.perf_counter(), 0
    advance(count)


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches, so many at a time."""
    while group := list(islice(batches, size)):
        yield group
