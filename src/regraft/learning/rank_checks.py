"""What several processes cannot train together: unlike models or data, layers and losses that need a whole batch."""

import torch
from torch import Tensor, nn

from regraft.caches.differences import tolerance_of
from regraft.errors import TrainError
from regraft.examples import Examples
from regraft.foundation.wording import counted, listed
from regraft.learning.learner import Learner, to_device
from regraft.learning.objective import Objective
from regraft.learning.ranks import TRAIN_ALONE, Ranks
from regraft.tensors.fingerprints import digest_of
from regraft.tensors.keeping import kept_generators, kept_modes
from regraft.tensors.trees import tensors_of

TRIED = 32  # examples of the batch that is taken as a whole and in parts
FEW = 2  # examples of the smaller part: what compares the examples of a batch gives another loss for them
APART = 1e-3  # relative, of mean and spread of inputs: other data; unlike processors round features less far apart


def refuse_unlike(ranks: Ranks, learner: Learner, examples: Examples, facts: dict[str, str]) -> None:
    """Raise TrainError, in every process, when options, weights or data are not the same in all of them.

    facts  name → text: options, counts and digests
    """
    weights = {f"the weights of {name}": digest_of(tensor) for name, tensor in learner.tensors().items()}
    # Inputs are not compared to the bit: unlike processors round the features of frozen layers apart.
    ranks.refuse_different({name: text for name, text in facts.items() if name != "inputs"} | weights)
    every = ranks.gathered(_looks_of(examples))
    if not all(torch.allclose(look, every[0], rtol=APART, atol=1e-6, equal_nan=True) for look in every):
        raise TrainError(
            f"The {counted(ranks.count, 'process/processes')} of the group have different inputs. Pass the whole data "
            "set to each of them: train gives each process its part of every batch.",
            advice=[TRAIN_ALONE],
        )


def refuse_whole_batches(ranks: Ranks, learner: Learner, objective: Objective, examples: Examples) -> None:
    """Raise TrainError where the loss of a batch is not the mean of its parts: each process computes one part.

    So it is with BatchNorm in the part that trains, and with losses that compare the examples of a batch.
    """
    layers = _batch_norms(learner)
    if layers:
        raise TrainError(
            f"{counted(len(layers), 'BatchNorm layer')} would train on a part of each batch in each of "
            f"{ranks.count} processes, and normalise by its statistics: {listed(layers)}.\nFreeze them "
            "(regraft.freeze), or use nn.GroupNorm or nn.LayerNorm.",
            advice=[TRAIN_ALONE],
        )
    count = min(TRIED, len(examples))
    if count < 2 * FEW:
        return
    indices = torch.arange(count)
    whole, once_more = (_loss(learner, objective, examples, [indices], seed=seed) for seed in (0, 1))
    is_training = bool(torch.equal(whole, once_more))  # nothing is drawn: the layers can be tried as they train
    if not is_training:
        whole = _loss(learner, objective, examples, [indices], is_training=False)
    by_parts = _loss(learner, objective, examples, [indices[:FEW], indices[FEW:]],
                     is_training=is_training)  # fmt: skip
    if not torch.allclose(by_parts, whole, rtol=_rounding_of(learner), atol=1e-6, equal_nan=True):
        raise TrainError(
            f"The loss of a batch of {count} examples is {float(whole):.6g}, and {float(by_parts):.6g} from its "
            "two parts. Several processes compute a part each, so they need a loss that is a mean over examples, and "
            "layers that take each example by itself.",
            advice=[TRAIN_ALONE],
        )


def _rounding_of(learner: Learner) -> float:
    """How far the parts of a batch may round a loss apart, relative."""
    if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in learner.parameters):
        return 3e-2
    return tolerance_of("float32", learner.device.type)


def _batch_norms(learner: Learner) -> list[str]:
    """The layers that normalise by the batch while they train."""
    with kept_modes(learner.model):
        learner.model.train()
        return [
            name
            for name, layer in learner.model.named_modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
            and not (list(layer.parameters()) and not any(p.requires_grad for p in layer.parameters()))
        ]  # fmt: skip


def _loss(
    learner: Learner, objective: Objective, examples: Examples, batches: list[Tensor], *, is_training: bool = True,
    seed: int = 0,
) -> Tensor:  # fmt: skip
    """The loss of all batches together, as `EagerStep.accumulate` adds it up; the model stays as it is."""
    state = learner.state()
    with kept_modes(learner.model), kept_generators(), torch.no_grad():
        learner.model.train(is_training)
        loss = total = torch.zeros((), dtype=torch.float64, device=learner.device)
        for indices in batches:
            inputs, labels = (to_device(values, learner.device) for values in examples.gather(indices))
            torch.manual_seed(seed)
            outputs = learner.outputs(inputs)
            weight = objective.weight(labels)
            value = objective(outputs, labels).double() * weight
            loss, total = (
                loss + torch.where(torch.as_tensor(weight, device=value.device) > 0, value, 0.0),
                total + weight,
            )
    learner.restore(state)
    return loss if objective.is_sum else loss / total


def _looks_of(examples: Examples) -> Tensor:
    """Mean and spread of the inputs of three examples: (tensors, 2), as near as processes round."""
    with kept_generators():
        torch.manual_seed(0)
        inputs, _ = examples.gather(torch.tensor([0, len(examples) // 2, len(examples) - 1]))
    values = [tensor.double().cpu() for tensor in tensors_of(inputs)]
    return torch.stack([torch.stack([value.mean(), value.std(correction=0)]) for value in values])
