"""Heads that are one linear layer: found by what they compute, and given their exact optimum."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from regraft.errors import TrainError
from regraft.examples import Examples, TensorExamples
from regraft.learning.flat_function import aten
from regraft.learning.history import Candidate, History
from regraft.learning.lbfgs import MOST_ITERATIONS, Solution, mean_square, solve_linear
from regraft.learning.learner import Learner
from regraft.learning.metrics import GivenMetrics
from regraft.learning.objective import Objective
from regraft.learning.operator_recording import NotFlatError, record
from regraft.learning.ranks import ALONE, Ranks
from regraft.learning.scoring import Score, score
from regraft.tasks.outputs import find_logits
from regraft.tensors.keeping import kept_modes
from regraft.tensors.trees import map_tree, tensors_of

# Strengths that are tried when there is validation to choose by, times the features' mean square.
PATH = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def linear_layer(learner: Learner, examples: Examples, objective: Objective) -> nn.Linear:
    """The layer that is the whole head.

    Raises TrainError with the reason where there is none: more layers or operators than `flatten` and one `nn.Linear`
    whose parameters are all that trains, another loss than cross-entropy, features that are not one float32 tensor in
    memory, labels that are not class numbers.
    """
    layers = [module for module in learner.model.modules() if type(module) is nn.Linear]
    layers = [layer for layer in layers if set(layer.parameters()) == set(learner.parameters)]
    if not layers:
        raise TrainError("more than one linear layer is trained")
    if not objective.is_plain_cross_entropy:
        raise TrainError("the loss is not plain cross-entropy")
    if not isinstance(examples, TensorExamples) or len(tensors_of(examples.inputs)) != 1:
        raise TrainError("the features are not one tensor in memory")
    _refuse_types(layers[0], examples)
    if not _is_whole_head(learner, layers[0], examples):
        raise TrainError(f"the {'head' if learner.is_head else 'model'} does more than its linear layer")
    return layers[0]


def _refuse_types(layer: nn.Linear, examples: TensorExamples) -> None:
    """Raise TrainError for features or weights of another type than float32, and for labels that are not classes."""
    (features,) = tensors_of(examples.inputs)
    if features.dtype != torch.float32 or layer.weight.dtype != torch.float32:
        raise TrainError(f"the features are {features.dtype}, not float32")
    labels = examples.labels
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 1:
        raise TrainError("the labels are not class numbers")


def solve_head(
    learner: Learner, layer: nn.Linear, examples: TensorExamples, held_out: Examples | None, objective: Objective,
    weight_decays: Sequence[float | None], *, batch_size: int, metrics: GivenMetrics = None, ranks: Ranks = ALONE,
) -> History:  # fmt: skip
    """Put the optimum into the layer; of several strengths the one with the lowest validation loss.

    ranks  the processes that solve and score together
    """
    (features,) = tensors_of(examples.inputs)
    features = features.reshape(len(examples), -1)
    strengths = _strengths(weight_decays, features, by_validation=held_out is not None)
    began = time.perf_counter()
    solutions = solve_linear(
        features, examples.labels.long(), layer.out_features, strengths, has_bias=layer.bias is not None, ranks=ranks
    )
    seconds = time.perf_counter() - began
    by_validation = partial(score, asked=objective, batch_size=batch_size, metrics=metrics, ranks=ranks)
    scores = [_score_of(layer, solution, learner, held_out, by_validation) for solution in solutions]
    losses = [0.0 if score is None else math.inf if math.isnan(score.loss) else score.loss for score in scores]
    best = losses.index(min(losses))
    _write_into(layer, solutions[best])
    candidates = tuple(map(_candidate, solutions, scores))
    return History(
        train_loss=(solutions[best].loss,),
        validation_loss=candidates[best].validation_loss,
        validation_accuracy=candidates[best].validation_accuracy,
        validation_metrics=candidates[best].validation_metrics,
        seconds=(seconds,),
        best_epoch=0 if held_out is not None else None,
        stopped_because=candidates[best].stopped_because,
        solver="lbfgs",
        weight_decay=solutions[best].weight_decay,
        candidates=candidates if len(candidates) > 1 else (),
    )


def _is_whole_head(learner: Learner, layer: nn.Linear, examples: TensorExamples) -> bool:
    """Whether the head, run on two examples as in training, does nothing but the layer's product with its input."""
    inputs, _ = examples.gather(torch.arange(min(2, len(examples))))
    (tensor,) = tensors_of(inputs)
    if tensor.numel() != len(tensor) * layer.in_features:
        return False

    def outputs(values: Tensor) -> list[Tensor]:
        logits = find_logits(learner.outputs(map_tree(lambda _: values, inputs)))
        return [] if logits is None else [logits]

    before = learner.state()
    with kept_modes(learner.model), torch.no_grad():
        learner.model.train()
        try:
            recording = record(outputs, tensor)
        except NotFlatError:
            return False
        finally:
            learner.restore(before)
    work = recording.work()
    products = (aten.addmm.default, aten.mm.default)
    return len(work) == 1 and work[0].operator in products and len(work[0].kwargs) == 0 and bool(
        recording.results and recording.results[0].shape == (len(tensor), layer.out_features)
    )  # fmt: skip


def _strengths(weight_decays: Sequence[float | None], features: Tensor, *, by_validation: bool) -> list[float]:
    """The strengths to solve for: those given; else a path where there is validation, and 1/count without."""
    given = [decay for decay in weight_decays if decay is not None]
    if given:
        return given
    return [part * mean_square(features) for part in PATH] if by_validation else [1 / len(features)]


def _score_of(
    layer: nn.Linear, solution: Solution, learner: Learner, held_out: Examples | None, score_of: Callable[..., Score]
) -> Score | None:
    """The solution's score on the validation examples; None without."""
    if held_out is None:
        return None
    _write_into(layer, solution)
    return score_of(learner, held_out)


def _write_into(layer: nn.Linear, solution: Solution) -> None:
    with torch.no_grad():
        layer.weight.copy_(solution.weight)
        if layer.bias is not None and solution.bias is not None:
            layer.bias.copy_(solution.bias)


def _candidate(solution: Solution, score: Score | None) -> Candidate:
    """The record of one strength of regularisation."""
    return Candidate(
        lr=None,
        weight_decay=solution.weight_decay,
        train_loss=(solution.loss,),
        validation_loss=() if score is None else (score.loss,),
        validation_accuracy=() if score is None else (score.accuracy,),
        validation_metrics={} if score is None else {name: (value,) for name, value in score.metrics.items()},
        kept_epoch=0,
        stopped_because=_end_of(solution),
    )


def _end_of(solution: Solution) -> str:
    if solution.iterations < MOST_ITERATIONS:
        return f"at the optimum after {solution.iterations} iterations of L-BFGS"
    return f"not at the optimum after {MOST_ITERATIONS} iterations of L-BFGS: the last weights stay"
