"""All that decides how a training goes on, as plain data: to be kept after an epoch, and put back."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.learning.candidate import CandidateRun
from regraft.learning.history import Stage
from regraft.learning.learner import State
from regraft.learning.scoring import Score
from regraft.learning.stages import Stages
from regraft.tensors.keeping import GeneratorStates, generator_states

Plain = dict[str, Any]


def state_of(runs: Sequence[CandidateRun], stages: Stages, notes: Sequence[str], seconds: Sequence[float]) -> Plain:
    """The state after an epoch: tensors are copies, all else is plain data."""
    return {
        "runs": [_state_of_run(run) for run in runs],
        "generators": _plain_generators(generator_states()),
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
        run.progress.scores[:] = [Score(**score) for score in values["scores"]]
        run.progress.failure = values["failure"]
    stages.begun[:] = [Stage(**{**stage, "layers": tuple(stage["layers"]), "leaves": tuple(stage["leaves"])})
                       for stage in state["begun"]]  # fmt: skip


def restore_tensors(state: Plain, runs: Sequence[CandidateRun]) -> None:
    """Put back weights, optimizers, rates and averages. After the runs have begun the stage."""
    for run, values in zip(runs, state["runs"], strict=True):
        _restore_run(run, values)


def restore_generators(state: Plain) -> None:
    """Put back the generators of random numbers, just before the epoch with which it goes on."""
    _as_generators(state["generators"]).restore()


def _state_of_run(run: CandidateRun) -> Plain:
    own = run.own
    weights = run.learner.state() if own is None else own.values
    return {
        "weights": _copied(weights),
        "kept": _copied(run.kept),
        "generators": None if own is None else _plain_generators(own.generators),
        "optimizer": _deep_copied(run.eager.optimizer.state_dict()),
        "scaler": None if run.eager.scaler is None else run.eager.scaler.state_dict(),
        "rates": None if run.rates is None else _deep_copied(run.rates.scheduler.state_dict()),
        "average": None if run.average is None else [values.clone() for values in run.average.averages.values()],
        "losses": list(run.progress.losses),
        "scores": [asdict(score) for score in run.progress.scores],
        "failure": run.progress.failure,
    }


def _restore_run(run: CandidateRun, values: Plain) -> None:
    if run.own is None:
        run.learner.restore(values["weights"])
    else:
        tensors = run.learner.tensors()
        run.own.values = {name: value.to(tensors[name].device) for name, value in values["weights"].items()}
        run.own.generators = _as_generators(values["generators"])
    run.kept = dict(values["kept"])
    run.eager.optimizer.load_state_dict(values["optimizer"])
    if run.eager.scaler is not None:
        run.eager.scaler.load_state_dict(values["scaler"])
    if run.rates is not None:
        run.rates.scheduler.load_state_dict(values["rates"])
    if run.average is not None:
        for average, saved in zip(run.average.averages.values(), values["average"], strict=True):
            average.copy_(saved)


def _copied(state: State) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _deep_copied(value: Any) -> Any:
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
