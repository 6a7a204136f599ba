"""How a training goes on after an interruption: all that decides it, kept after each epoch and put back."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields, replace
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from regraft.caches.features import Features
from regraft.errors import TrainError
from regraft.examples import DatasetExamples, Examples, TensorExamples
from regraft.foundation.wording import counted
from regraft.learning.averaging import AveragedWeights
from regraft.learning.callbacks import Callbacks, EpochEnd
from regraft.learning.candidate import CandidateRun
from regraft.learning.checkpoints import CheckpointFile
from regraft.learning.history import Stage
from regraft.learning.learner import State
from regraft.learning.objective import Objective
from regraft.learning.ranks import ALONE, Ranks
from regraft.learning.scoring import Score
from regraft.learning.solvers import Steps
from regraft.learning.stages import Stages
from regraft.learning.statistics import ClassScore
from regraft.tensors.fingerprints import digest_of
from regraft.tensors.keeping import GeneratorStates, generator_states
from regraft.tensors.trees import tensors_of

Plain = dict[str, Any]
SAMPLED = 64  # rows of the inputs, by which a data set is known again


@final
class Watch(AbstractContextManager["Watch"]):
    """Keeps the state of a training after each epoch, calls the callbacks, and puts a state back.

    file   None: nothing is kept. Of several ranks the first alone reads and writes it
    ranks  the processes that train together
    """

    def __init__(
        self, file: CheckpointFile | None, callbacks: Callbacks, settings: Mapping[str, object], ranks: Ranks = ALONE
    ) -> None:
        self.file, self.callbacks, self.settings, self.ranks = file, callbacks, settings, ranks
        self.notes, self.seconds = list[str](), list[float]()
        self._state: Plain | None = None

    def __exit__(self, *error: object) -> None:
        try:
            if self.file is not None:
                self.file.flush()
        finally:
            self.callbacks.close()

    def resume(self, runs: Sequence[CandidateRun], stages: Stages) -> int:
        """Put back what was reached so far; returns the epoch with which the training goes on, 0 at its beginning.

        Raises TrainError for a state of another training.
        """
        if self.file is not None:
            self._state = self.ranks.from_first(self.file.read() if self.ranks.is_first else None)
        if self._state is not None:
            done = len(self._state["seconds"])
            if done > stages.epochs:
                raise TrainError(
                    f"The training has {counted(done, 'finished epoch')}, and {counted(stages.epochs, 'epoch')} are "
                    "asked for: the weights of an earlier epoch are gone. Ask for as many, or use another folder."
                )
            restore_progress(self._state, runs, stages)
            resumed = f"went on after {counted(done, 'epoch')} that an earlier run had finished"
            self.notes, self.seconds = [*self._state["notes"], resumed], list(self._state["seconds"])
        self.callbacks.train_begin(self.settings)
        return len(self.seconds)

    def put_back(self, runs: Sequence[CandidateRun]) -> None:
        """The weights and optimizers, once; the runs have begun the stage."""
        if self._state is not None:
            restore_tensors(self._state, runs, self.ranks)

    def put_back_generators(self) -> None:
        """The generators of random numbers, once, just before the epoch with which the training goes on."""
        if self._state is not None:
            restore_generators(self._state, self.ranks)
            self._state = None

    def epoch_end(self, runs: Sequence[CandidateRun], stages: Stages, best: CandidateRun) -> None:
        """After an epoch and its validation; nothing where no candidate could finish it."""
        if not best.progress.losses:
            return
        if self.file is not None:
            state = state_of(runs, stages, self.notes, self.seconds, self.ranks)
            if self.ranks.is_first:
                self.file.keep(state)
        numbers = {"train_loss": best.progress.losses[-1], "lr": float(best.eager.optimizer.param_groups[0]["lr"])}
        for score in best.progress.scores[-1:]:
            numbers |= {f"validation_{name}": score.value(name) for name in ("loss", *score.metrics)}
        self.callbacks.epoch_end(EpochEnd(len(self.seconds) - 1, stages.epochs, numbers, self.seconds[-1]))


def watch_of(steps: Steps, objective: Objective, stages: Stages, seed: int, ranks: Ranks = ALONE) -> Watch:
    """What keeps the state of this training and calls its callbacks, those of rank 0."""
    settings = {"solver": str(steps), "task": _task_name(objective), "loss": objective.name, "seed": seed}
    kept = steps.kept_in
    file = None if kept is None else CheckpointFile(kept, identity_of(steps, objective, stages, seed, ranks))
    return Watch(file, Callbacks(steps.callbacks if ranks.is_first else ()), settings, ranks)


def identity_of(
    steps: Steps, objective: Objective, stages: Stages, seed: int, ranks: Ranks = ALONE
) -> dict[str, str]:  # fmt: skip
    """What must be the same when a training goes on, but for the number of epochs where no rate depends on it."""
    left_out = {"group"} if steps.depends_on_epochs else {"group", "epochs"}
    names = [entry.name for entry in fields(steps) if entry.repr and entry.name not in left_out]
    digest = hashlib.sha256(repr(sorted(stages.digests.items())).encode()).hexdigest()[:16]
    shapes = {name: tuple(p.shape) for name, p in stages.model.named_parameters() if p.requires_grad}
    return {
        **{name: _named(getattr(steps, name)) for name in names},
        "task": _task_name(objective),
        "task settings": repr(objective.task),
        "loss": objective.name,
        "loss settings": "; ".join(part.settings for part in objective.parts),
        "seed": str(seed),
        "training examples": str(len(stages.source.examples)),
        "inputs": _digest_of_inputs(stages.source.examples),
        "labels": _digest_of_labels(stages.source.examples.labels),
        "validation examples": str(0 if stages.held_out is None else len(stages.held_out)),
        "trainable parameters": str(shapes),
        "frozen tensors": f"sha256 {digest}",
        **({"processes": str(ranks.count)} if ranks.are_several else {}),
    }


def _task_name(objective: Objective) -> str:
    return "unknown" if objective.task is None else objective.task.name


def _named(value: object) -> str:
    """A setting as text that is the same in another process."""
    if isinstance(value, torch.optim.Optimizer):
        return f"{type(value).__name__} {value.defaults}"
    return getattr(value, "__qualname__", type(value).__name__) if callable(value) else repr(value)


def _digest_of_inputs(examples: Examples) -> str:
    """Of some rows of tensors, spread over all; "unknown" for examples that are fetched one by one, maybe at random."""
    if isinstance(examples, DatasetExamples) or not isinstance(examples, TensorExamples | Features):
        return "unknown"
    rows = torch.linspace(0, len(examples) - 1, min(len(examples), SAMPLED)).long()
    return _digest_of_labels(examples.gather(rows)[0])


def _digest_of_labels(labels: object) -> str:
    tensors = tensors_of(labels) if labels is not None else []
    return hashlib.sha256("".join(map(digest_of, tensors)).encode()).hexdigest()[:16] if tensors else "unknown"


def state_of(
    runs: Sequence[CandidateRun], stages: Stages, notes: Sequence[str], seconds: Sequence[float], ranks: Ranks = ALONE
) -> Plain:
    """The state after an epoch: tensors are copies, all else is plain data.

    ranks  processes of which each has generators of its own; all else is the same in all
    """
    return {
        "runs": [_state_of_run(run, ranks) for run in runs],
        "generators": _of_all(ranks, generator_states()),
        "begun": [asdict(stage) for stage in stages.begun],
        "notes": list(notes),
        "seconds": list(seconds),
    }


def restore_progress(state: Plain, runs: Sequence[CandidateRun], stages: Stages) -> None:
    """Put back what was reached so far: losses, scores, stages. Before the stage is entered with which it goes on."""
    if len(runs) != len(state["runs"]):
        raise TrainError("The checkpoint is of a training with other candidates.")
    for run, values in zip(runs, state["runs"], strict=True):
        run.progress.losses[:] = values["losses"]
        run.progress.scores[:] = [_as_score(score) for score in values["scores"]]
        run.progress.failure = values["failure"]
        run.kept = dict(values["kept"])
    done = len(state["seconds"])
    entered_again = stages.first_epoch(done) if done not in stages else None
    stages.begun[:] = [
        Stage(**stage) for stage in state["begun"] if not stage["epoch"] or stage["epoch"] != entered_again
    ]


def restore_tensors(state: Plain, runs: Sequence[CandidateRun], ranks: Ranks = ALONE) -> None:
    """Put back weights, optimizers, rates and averages. After the runs have begun the stage."""
    for run, values in zip(runs, state["runs"], strict=True):
        _restore_run(run, values, ranks)


def restore_generators(state: Plain, ranks: Ranks = ALONE) -> None:
    """Put back the generators of random numbers, just before the epoch with which it goes on."""
    _own(ranks, state["generators"]).restore()


def _of_all(ranks: Ranks, generators: GeneratorStates) -> Any:
    """The generators of this process; of several a list by rank."""
    plain = _plain_generators(generators)
    return ranks.gathered(plain) if ranks.are_several else plain


def _own(ranks: Ranks, kept: Any) -> GeneratorStates:
    return _as_generators(kept[ranks.rank] if ranks.are_several else kept)


def _state_of_run(run: CandidateRun, ranks: Ranks) -> Plain:
    own = run.own
    weights = run.learner.state() if own is None else own.values
    return {
        "weights": _copied(weights),
        "kept": _copied(run.kept),
        "generators": None if own is None else _of_all(ranks, own.generators),
        "optimizer": _deep_copied(run.eager.optimizer.state_dict()),
        "scaler": None if run.eager.scaler is None else run.eager.scaler.state_dict(),
        "rates": None if run.rates is None else _deep_copied(run.rates.scheduler.state_dict()),
        "average": None if run.average is None else _average_by_name(run, run.average),
        "losses": list(run.progress.losses),
        "scores": [asdict(score) for score in run.progress.scores],
        "failure": run.progress.failure,
    }


def _restore_run(run: CandidateRun, values: Plain, ranks: Ranks) -> None:
    if run.own is None:
        run.learner.restore(values["weights"])
    else:
        tensors = run.learner.tensors()
        run.own.values = {name: value.to(tensors[name].device) for name, value in values["weights"].items()}
        run.own.generators = _own(ranks, values["generators"])
    run.eager.optimizer.load_state_dict(values["optimizer"])
    if run.eager.scaler is not None:
        run.eager.scaler.load_state_dict(values["scaler"])
    if run.rates is not None:
        run.rates.scheduler.load_state_dict(values["rates"])
    if run.average is not None:
        tensors = run.learner.tensors()
        for name, saved in values["average"].items():
            run.average.averages[cast(nn.Parameter, tensors[name])].copy_(saved)


def _average_by_name(run: CandidateRun, average: AveragedWeights) -> State:
    names = {parameter: name for name, parameter in run.learner.model.named_parameters()}
    return {names[parameter]: values.clone() for parameter, values in average.averages.items()}


def _as_score(plain: Plain) -> Score:
    """per_class holds plain dictionaries."""
    return Score(**{**plain, "per_class": tuple(ClassScore(**values) for values in plain["per_class"])})


def _copied(state: State) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _deep_copied(value: object) -> Any:
    """Dictionaries, lists and tuples with copies of their tensors."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _deep_copied(part) for key, part in value.items()}
    return type(value)(map(_deep_copied, value)) if isinstance(value, list | tuple) else value


def _plain_generators(states: GeneratorStates) -> Plain:
    kind, keys, *rest = states.numpy
    return {
        "python": states.python,
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "cpu": states.cpu,
        "gpus": [tuple(pair) for pair in states.gpus],
    }


def _as_generators(plain: Plain) -> GeneratorStates:
    kind, keys, *rest = plain["numpy"]
    version, internal, gauss = plain["python"]
    present = generator_states()
    return replace(
        present,
        python=(version, tuple(internal), gauss),
        numpy=(kind, keys.numpy().astype(np.uint32), *rest),
        cpu=plain["cpu"],
        gpus=tuple((device, state) for device, state in plain["gpus"]),
    )
