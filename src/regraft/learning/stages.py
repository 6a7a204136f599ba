"""Stages of training: from which epoch which layers train, and on which features.

Without a schedule there is one stage. With one, every stage is planned, and its cut proven, before anything trains.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from regraft.caches.features import Features
from regraft.cuts.frozen import all_but, freeze_chosen, frozen_as_now, names_of
from regraft.errors import DoesNotPayError, FreezeError, PatternError, SplitError, TrainError
from regraft.examples import Examples, as_examples
from regraft.foundation.patterns import Patterns, as_patterns, choose
from regraft.foundation.wording import counted
from regraft.learning.batches import BatchSource, in_memory
from regraft.learning.history import Stage
from regraft.learning.learner import Learner
from regraft.learning.schedules import Schedule, form_problems, in_order
from regraft.splitting import Head, TrunkPart

WAY_OUT = (
    "Freeze only layers that never train: in a job leave out [freeze], in Python call freeze(model, trainable=[all "
    "patterns of the schedule]) before split and cache_features"
)


def schedule_problems(head: nn.Module, schedule: Schedule) -> list[str]:
    """A sentence for each reason why this model cannot be trained by the schedule; nothing is changed."""
    model, cached = Learner(head).model, _cached_parameters(head)
    problems, trained = list[str](), set[nn.Parameter]()
    for epoch, patterns in in_order(schedule):
        try:
            named = _named_parameters(model, patterns)
        except PatternError as error:
            problems.append(f"epoch {epoch} of the schedule: {' '.join(str(error).splitlines())}")
            continue
        can_train = {parameter for parameter in named if parameter.requires_grad}
        if problem := _entry_problem(named, can_train, cached, trained):
            problems.append(f"epoch {epoch} of the schedule: {_text(patterns)} {problem}")
        trained |= can_train
    return problems


def _entry_problem(
    named: set[nn.Parameter], can_train: set[nn.Parameter], cached: set[nn.Parameter], trained: set[nn.Parameter]
) -> str:
    """Why the layers of an entry cannot begin to train; "" where they can."""
    if not named:
        return "has no parameters"
    if not can_train:
        return f"is frozen. {WAY_OUT}"
    if can_train & cached:
        return f"was frozen when the features were cut. {WAY_OUT}"
    return "trains already" if can_train <= trained else ""


def check_schedule(model: nn.Module, schedule: Schedule, epochs: int) -> None:
    """Raise TrainError with every reason why the model cannot be trained by the schedule for so many epochs."""
    problems = form_problems(schedule, epochs) or schedule_problems(model, schedule)
    if problems:
        raise TrainError("The schedule cannot be followed: " + "; ".join(problems) + ".")


@final
@dataclass
class _StagePlan:
    """A stage before it begins.

    layers      the patterns of what begins to train
    trainable   the patterns of all that trains
    part, head  compute its deeper features, and take them; None where it takes the features that there are
    """

    epoch: int
    epochs: int
    layers: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()
    part: TrunkPart | None = None
    head: Head | None = None


@final
@dataclass(frozen=True)
class _StageData:
    """What a stage trains, on which examples; `note` says why it has no features of its own where it could have."""

    learner: Learner
    data: Examples
    validation: Examples | None
    note: str = ""


@final
class Stages(AbstractContextManager["Stages"]):
    """The stages of a training, one after the other; on leaving, exactly those layers are frozen that were before.

    learner   what is trained now
    source    its batches
    held_out  its validation examples; None without
    begun     for the history, one entry for each stage of a schedule so far
    """

    learner: Learner
    source: BatchSource
    held_out: Examples | None

    def __init__(
        self, head: nn.Module, data: Examples, validation: Examples | None, schedule: Schedule | None, *, epochs: int,
        source: Callable[[Examples, torch.device], BatchSource],
    ) -> None:  # fmt: skip
        self.head, self.source_of = head, source
        self.data = as_examples(data)
        self.validation = None if validation is None else as_examples(validation)
        self.epochs, self.begun = epochs, list[Stage]()
        self.learner = Learner(head)
        self.model = self.learner.model
        self._freeze_as_before = frozen_as_now(self.model)
        self._digests: dict[str, str] = {}
        self._plans = _plans(schedule, epochs) if schedule else {0: _StagePlan(0, epochs)}
        self._left_out: list[str] = []

    def __exit__(self, *error: object) -> None:
        self._freeze_as_before()

    def __contains__(self, epoch: int) -> bool:
        """Whether a stage begins with this epoch."""
        return epoch in self._plans

    def first_epoch(self, epoch: int) -> int:
        """The epoch with which the stage of this epoch begins."""
        return max(first for first in self._plans if first <= epoch)

    @property
    def digests(self) -> Mapping[str, str]:
        """Of the tensors that are frozen in the present stage."""
        return self._digests

    def epochs_of(self, epoch: int) -> int:
        """How many epochs the stage that begins with this one lasts."""
        return self._plans[epoch].epochs

    def unfreeze_all(self) -> tuple[nn.Parameter, ...]:
        """The parameters that will ever train; until the first stage begins all of them are trainable."""
        before = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self._freeze_for(self._plans[max(self._plans)])
        self._left_out = [name for name, p in self.model.named_parameters() if name in before and not p.requires_grad]
        return Learner(self.head).parameters

    def prove(self) -> None:
        """Split the model for each stage whose cut lies deeper than that of the features.

        Raises TrainError that names every stage for which that cannot be done.
        """
        problems = []
        for plan in self._plans.values():
            if self._freeze_for(plan) and isinstance(self.head, Head):
                try:
                    plan.part, plan.head = self.head.recut()
                except (SplitError, FreezeError) as error:
                    problems.append(f"  epoch {plan.epoch} ({_text(plan.layers)}): {error}")
        if problems:
            raise TrainError(
                "The model cannot be split for every stage of the schedule:\n" + "\n".join(problems) + "\nLet other "
                "layers begin there, or train without cached features: in a job set [cache] use = false, in Python "
                "call train(model, data)."
            )

    def enter(self, epoch: int) -> None:
        """Begin the stage of this epoch: its layers train from now on, on the features of its own cut.

        Raises TrainError when a tensor that was frozen until now has changed, or the features given are of other
        weights.
        """
        self.check_frozen()
        plan = self._plans[epoch]
        self._freeze_for(plan)
        stage = self._data_of(plan)
        self.learner = stage.learner
        self.source = self.source_of(stage.data, self.learner.device)
        self.held_out = None
        if stage.validation is not None:
            self.held_out = in_memory(as_examples(stage.validation), self.learner.device)
        self._digests = self.learner.frozen_digests()
        if epoch == 0:
            for examples in (self.data, self.validation):
                self.learner.refuse_stale(examples, self._digests)
                if examples is not None:
                    self.learner.refuse_padding(examples)
        if plan.layers:
            self.begun.append(_record(plan, stage, self.data))

    def check_frozen(self) -> None:
        """Raise TrainError when a tensor that is frozen in this stage is not what it was at its beginning."""
        self.learner.refuse_changed(self._digests)

    def notes(self) -> list[str]:
        """A sentence for what the schedule left out, and for each stage that never began."""
        begun = {0, *(stage.epoch for stage in self.begun)}
        late = [plan for plan in self._plans.values() if plan.epoch not in begun]
        sentences = [f"epoch {plan.epoch} was not reached: {_text(plan.layers)} did not train" for plan in late]
        if self._left_out:
            some = ", ".join(self._left_out[:3])
            left_out = counted(len(self._left_out), "parameter")
            sentences.insert(0, f"{left_out} that no entry of the schedule names did not train: {some}")
        return sentences

    def _freeze_for(self, plan: _StagePlan) -> bool:
        """Of what could train, let exactly this stage's layers train; returns whether that freezes anything."""
        self._freeze_as_before()
        could = {parameter for parameter in self.model.parameters() if parameter.requires_grad}
        if not plan.trainable or could <= _named_parameters(self.model, plan.trainable):
            return False
        freeze_chosen(self.model, all_but(self.model, plan.trainable))
        return True

    def _data_of(self, plan: _StagePlan) -> _StageData:
        """The stage's learner and examples; features of its own cut where they can be computed and that pays."""
        if plan.part is None or plan.head is None:
            return _StageData(Learner(self.head), self.data, self.validation)
        carried = Learner(plan.head, plan.part)
        if not isinstance(self.data, Features) or not isinstance(self.validation, Features | None):
            note = "each batch is computed on to its cut: only features of cache_features are kept for a stage"
            return _StageData(carried, self.data, self.validation, note)
        try:
            data = self.data.deeper(plan.part, epochs=plan.epochs)
            validation = None if self.validation is None else self.validation.deeper(plan.part, epochs=plan.epochs)
        except DoesNotPayError as error:
            reason = error.text.splitlines()[0]
            note = f"each batch is computed on to its cut, for features of its own do not pay: {reason}"
            return _StageData(carried, self.data, self.validation, note)
        return _StageData(Learner(plan.head), data, validation)


def _cached_parameters(head: nn.Module) -> set[nn.Parameter]:
    """The parameters on which a head's features depend: training them would have no effect."""
    if not isinstance(head, Head):
        return set()
    names = head.trunk.frozen_tensors()
    return {parameter for name, parameter in head.model.named_parameters() if name in names}


def _plans(schedule: Schedule, epochs: int) -> dict[int, _StagePlan]:
    """Epoch → its stage, in order."""
    plans, trainable = dict[int, _StagePlan](), tuple[str, ...]()
    entries = in_order(schedule)
    ends = [*(epoch for epoch, _ in entries[1:]), epochs]
    for (epoch, patterns), end in zip(entries, ends, strict=True):
        layers = tuple(as_patterns(patterns))
        trainable += layers
        plans[epoch] = _StagePlan(epoch, end - epoch, layers, trainable)
    return plans


def _named_parameters(model: nn.Module, patterns: Patterns) -> set[nn.Parameter]:
    """The parameters that the patterns choose."""
    chosen = set(choose(names_of(model), patterns))
    return {parameter for name, parameter in model.named_parameters(remove_duplicate=False) if name in chosen}


def _text(patterns: Patterns) -> str:
    return " | ".join(as_patterns(patterns))


def _record(plan: _StagePlan, stage: _StageData, given: Examples) -> Stage:
    """What the history records of a stage that begins; other features than the given ones were computed for it."""
    own = stage.data if isinstance(stage.data, Features) and stage.data is not given else None
    cut = plan.part.cut if plan.part is not None else stage.data.cut if isinstance(stage.data, Features) else None
    return Stage(
        epoch=plan.epoch,
        layers=plan.layers,
        parameters=sum(parameter.numel() for parameter in stage.learner.parameters),
        leaves=() if cut is None else tuple(leaf.name for leaf in cut.leaves),
        bytes_per_example=0 if cut is None else cut.bytes_per_example,
        bytes=own.bytes if own is not None else 0,
        seconds=own.seconds if own is not None else 0.0,
        note=stage.note,
    )
