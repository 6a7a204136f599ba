"""Stages of training: from which epoch which layers train, and on which features.

Without a schedule there is one stage. With one, every stage is planned, and its cut proven, before anything trains.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from regraft.cuts.frozen import all_but, freeze_chosen, frozen_as_now, names_of
from regraft.errors import DoesNotPayError, FreezeError, PatternError, SplitError, TrainError
from regraft.examples import Examples, as_examples
from regraft.foundation.patterns import Patterns, as_patterns, choose
from regraft.foundation.wording import counted
from regraft.learning.batches import Source, held
from regraft.learning.history import Stage
from regraft.learning.learner import HeadLike, Learner
from regraft.learning.schedules import Schedule, form_problems, in_order

WAY_OUT = (
    "Freeze only what never trains: in a job leave out [freeze], in Python call freeze(model, trainable=[all patterns "
    "of the schedule]) before split and cache_features"
)


def schedule_problems(head: nn.Module | HeadLike, schedule: Schedule) -> list[str]:
    """A sentence for each reason why this model cannot be trained by the schedule; nothing is changed."""
    model, cached = Learner(head).model, _cached_parameters(head)
    problems, trained = list[str](), set[nn.Parameter]()
    for epoch, patterns in in_order(schedule):
        entry = f"epoch {epoch} of the schedule"
        try:
            named = _named_parameters(model, patterns)
        except PatternError as error:
            problems.append(f"{entry}: {' '.join(str(error).splitlines())}")
            continue
        can_train = {parameter for parameter in named if parameter.requires_grad}
        if not named:
            problems.append(f"{entry}: {_told(patterns)} has no parameters")
        elif not can_train:
            problems.append(f"{entry}: {_told(patterns)} is frozen. {WAY_OUT}")
        elif can_train & cached:
            problems.append(f"{entry}: {_told(patterns)} was frozen when the features were cut. {WAY_OUT}")
        elif can_train <= trained:
            problems.append(f"{entry}: {_told(patterns)} trains already")
        trained |= can_train
    return problems


def check_schedule(model: nn.Module, schedule: Schedule, epochs: int) -> None:
    """Raise TrainError with every reason why the model cannot be trained by the schedule for so many epochs."""
    problems = form_problems(schedule, epochs) or schedule_problems(model, schedule)
    if problems:
        raise TrainError("The schedule cannot be followed: " + "; ".join(problems) + ".")


@final
@dataclass
class _Plan:
    """A stage before it begins.

    trainable   the patterns of all that trains
    part, head  the way to its deeper features and their head; None where it takes the features that there are
    """

    epoch: int
    epochs: int
    layers: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()
    part: Any = None
    head: Any = None


@final
class Stages(AbstractContextManager):
    """The stages of a training, one after the other; on leaving, exactly that is frozen that was frozen before.

    learner   what is trained now
    source    its examples
    held_out  its validation examples; None without
    begun     what the history tells, one entry for each stage of a schedule so far
    """

    learner: Learner
    source: Source
    held_out: Examples | None

    def __init__(
        self, head: nn.Module | HeadLike, data: Any, validation: Any, schedule: Schedule | None, *, epochs: int,
        source: Callable[[Any, torch.device], Source],
    ) -> None:  # fmt: skip
        self.head, self.data, self.validation, self.source_of = head, data, validation, source
        self.epochs, self.begun = epochs, list[Stage]()
        self.learner = Learner(head)
        self.model = self.learner.model
        self._freeze_as_before = frozen_as_now(self.model)
        self._frozen: dict[str, str] = {}
        self._plans = _plans(schedule, epochs) if schedule else {0: _Plan(0, epochs)}
        self._left_out: list[str] = []

    def __exit__(self, *error: object) -> None:
        self._freeze_as_before()

    def __contains__(self, epoch: int) -> bool:
        """Whether a stage begins with this epoch."""
        return epoch in self._plans

    def epochs_of(self, epoch: int) -> int:
        """How many epochs the stage that begins with this one lasts."""
        return self._plans[epoch].epochs

    def open_all(self) -> tuple[nn.Parameter, ...]:
        """The parameters that will ever train; until the first stage begins all of them are trainable."""
        could = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self._open(self._plans[max(self._plans)])
        self._left_out = [name for name, p in self.model.named_parameters() if name in could and not p.requires_grad]
        return Learner(self.head).parameters

    def prove(self) -> None:
        """Split the model for each stage whose cut lies deeper than that of the features.

        Raises TrainError that names every stage for which that cannot be done.
        """
        problems, recut = [], getattr(self.head, "recut", None)
        for plan in self._plans.values():
            if self._open(plan) and recut is not None:
                try:
                    plan.part, plan.head = recut()
                except (SplitError, FreezeError) as error:
                    problems.append(f"  epoch {plan.epoch} ({_told(plan.layers)}): {error}")
        if problems:
            raise TrainError(
                "The model cannot be split for every stage of the schedule:\n" + "\n".join(problems) + "\nLet other "
                "layers begin there, or train without cached features: in a job [cache] use = false, in Python "
                "train(model, data)."
            )

    def enter(self, epoch: int) -> None:
        """Begin the stage of this epoch: its layers train from now on, on the features of its own cut.

        Raises TrainError when a tensor that was frozen until now has moved, or the features given are of other weights.
        """
        self.check_frozen()
        plan = self._plans[epoch]
        self._open(plan)
        head, data, validation, note = self._examples(plan)
        self.learner = Learner(head)
        self.source = self.source_of(data, self.learner.device)
        self.held_out = None if validation is None else held(as_examples(validation), self.learner.device)
        self._frozen = self.learner.frozen_digests()
        if epoch == 0:
            for examples in (self.data, self.validation):
                self.learner.refuse_stale(examples, self._frozen)
        if plan.layers:
            self.begun.append(_begun(plan, self.learner, data, note, is_own=data is not self.data))

    def check_frozen(self) -> None:
        """Raise TrainError when a tensor that is frozen in this stage is not what it was at its beginning."""
        self.learner.refuse_moved(self._frozen)

    def notes(self) -> list[str]:
        """A sentence for what the schedule left out, and for each stage that never began."""
        begun = {0, *(stage.epoch for stage in self.begun)}
        late = [plan for plan in self._plans.values() if plan.epoch not in begun]
        sentences = [f"epoch {plan.epoch} was not reached: {_told(plan.layers)} did not train" for plan in late]
        if self._left_out:
            some = ", ".join(self._left_out[:3])
            left_out = counted(len(self._left_out), "parameter")
            sentences.insert(0, f"{left_out} that no entry of the schedule names did not train: {some}")
        return sentences

    def _open(self, plan: _Plan) -> bool:
        """Of what could train, let exactly this stage's layers train; returns whether that freezes anything."""
        self._freeze_as_before()
        could = {parameter for parameter in self.model.parameters() if parameter.requires_grad}
        if not plan.trainable or could <= _named_parameters(self.model, plan.trainable):
            return False
        freeze_chosen(self.model, all_but(self.model, plan.trainable))
        return True

    def _examples(self, plan: _Plan) -> tuple[Any, Any, Any, str]:
        """The stage's head, its examples, its validation examples, and a note where it could have had better ones."""
        given = [self.data] if self.validation is None else [self.data, self.validation]
        if plan.part is None:
            return self.head, self.data, self.validation, ""
        joined = JoinedHead(plan.part, plan.head)
        if not all(hasattr(examples, "deeper") for examples in given):
            note = "each batch is carried on to its cut: only features that cache_features gave are kept for a stage"
            return joined, self.data, self.validation, note
        try:
            data, *rest = (examples.deeper(plan.part, epochs=plan.epochs) for examples in given)
        except DoesNotPayError as error:
            note = f"its own cut does not pay, so each batch is carried on to it: {str(error).partition(chr(10))[0]}"
            return joined, self.data, self.validation, note
        return plan.head, data, next(iter(rest), None), ""


@final
class JoinedHead:
    """A head on the features of a shallower cut: carries each batch on to its own, and keeps nothing."""

    takes_features = True

    def __init__(self, part: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], head: HeadLike) -> None:
        self.part, self.head, self.model = part, head, head.model

    def parameters(self) -> list[nn.Parameter]:
        """Those of the head."""
        return list(self.head.parameters())

    def __call__(self, leaves: Mapping[str, Tensor], /) -> Any:
        """The model's outputs for the shallower features."""
        return self.head(self.part(leaves))


def _cached_parameters(head: Any) -> set[nn.Parameter]:
    """The parameters on which a head's features depend: whoever trains them trains in vain."""
    if not hasattr(head, "recut"):
        return set()
    names = head.trunk.frozen_tensors()
    return {parameter for name, parameter in head.model.named_parameters() if name in names}


def _plans(schedule: Schedule, epochs: int) -> dict[int, _Plan]:
    """Epoch → its stage, in order."""
    plans, trainable = dict[int, _Plan](), tuple[str, ...]()
    entries = in_order(schedule)
    ends = [*(epoch for epoch, _ in entries[1:]), epochs]
    for (epoch, patterns), end in zip(entries, ends, strict=True):
        layers = tuple(as_patterns(patterns))
        trainable += layers
        plans[epoch] = _Plan(epoch, end - epoch, layers, trainable)
    return plans


def _named_parameters(model: nn.Module, patterns: Patterns) -> set[nn.Parameter]:
    """The parameters that the patterns choose."""
    chosen = set(choose(names_of(model), patterns))
    return {parameter for name, parameter in model.named_parameters(remove_duplicate=False) if name in chosen}


def _told(patterns: Patterns) -> str:
    return " | ".join(as_patterns(patterns))


def _begun(plan: _Plan, learner: Learner, data: Any, note: str, *, is_own: bool) -> Stage:
    """What the history tells of a stage that begins."""
    cut = plan.part.cut if plan.part is not None else getattr(data, "cut", None)
    return Stage(
        epoch=plan.epoch,
        layers=plan.layers,
        parameters=sum(parameter.numel() for parameter in learner.parameters),
        leaves=() if cut is None else tuple(leaf.name for leaf in cut.leaves),
        bytes_per_example=0 if cut is None else cut.bytes_per_example,
        bytes=data.bytes if is_own else 0,
        seconds=data.seconds if is_own else 0.0,
        note=note,
    )
