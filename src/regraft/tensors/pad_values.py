"""What the shorter inputs of a batch end in: the pad id of the model for token ids, zeros for all else."""

from collections.abc import Collection, Mapping
from inspect import signature
from typing import cast

import torch
from torch import Tensor, nn

from regraft.errors import Advice, DataError
from regraft.foundation.wording import listed
from regraft.tensors.trees import Inputs, named_tensors

IDS = ("input_ids", "decoder_input_ids")  # as models of transformers name their token ids
MASKS = {"attention_mask": IDS[0], "decoder_attention_mask": IDS[1]}  # and the masks of their padding
GivenPads = float | Mapping[str, float] | None


def pad_values(model: nn.Module, inputs: Inputs, given: GivenPads = None) -> dict[str, float]:
    """Path of an input → what its shorter rows end in; nothing for those that end in zeros.

    inputs  of one example
    given   a value for each name, or one value for the only input of whole numbers; None: the pad id that the model's
            configuration has, for inputs that are called input_ids or are its first argument of that name

    Raises DataError for a name that no input has.
    """
    tensors = dict(named_tensors(inputs))
    if isinstance(given, Mapping):
        _refuse_unknown(given, tensors)
        return dict(given)
    whole = [path for path, tensor in tensors.items() if not tensor.is_floating_point() and tensor.dtype != torch.bool]
    if given is not None:
        return {_only(whole, given): given}
    pad_id, names = config_pad_id(model), _parameter_names(model)
    return {} if pad_id is None else {path: pad_id for path in whole if _name_of(path, names) in IDS}


def _refuse_unknown(given: Mapping[str, float], tensors: Mapping[str, object]) -> None:
    unknown = [name for name in given if name not in tensors]
    if unknown:
        raise DataError(f"There is no input {listed(unknown)} to pad. The inputs are {listed(list(tensors))}.")


def _only(whole: list[str], given: float) -> str:
    """The only input of whole numbers. Raises DataError where there are none or several."""
    if len(whole) != 1:
        raise DataError(
            f"{len(whole)} inputs are whole numbers: {listed(whole)}.",
            advice=[Advice("pad", dict.fromkeys(whole[:1], given), "pad this one")],
        )
    return whole[0]


def missing_masks(model: nn.Module, inputs: Inputs, taken: Collection[str] | None = None) -> dict[str, str]:
    """Mask that the model takes and an example's inputs lack → the name of the token ids that it belongs to.

    taken  the arguments with which the model is called, where that is fixed; None: all of its `forward`
    """
    names = _parameter_names(model)
    given = {_name_of(path, names) for path, _ in named_tensors(inputs)}
    wanted = names if taken is None else taken
    return {mask: ids for mask, ids in MASKS.items() if mask in wanted and mask not in given and ids in given}


def takes_mask(model: nn.Module) -> bool:
    """Whether the model takes a mask of the padding by its usual name."""
    return any(mask in _parameter_names(model) for mask in MASKS)


def with_masks(inputs: Inputs, masks: Mapping[str, str]) -> Inputs:
    """An example's inputs by name, with a mask of ones for token ids: padding ends it in zeros."""
    named = dict(inputs) if isinstance(inputs, Mapping) else {next(iter(masks.values())): inputs}
    return named | {mask: torch.ones_like(cast(Tensor, named[ids])) for mask, ids in masks.items()}


def config_pad_id(model: nn.Module) -> int | None:
    """The pad id in the configuration of the model or of a model inside it; None where there is none."""
    for module in model.modules():
        pad_id = getattr(getattr(module, "config", None), "pad_token_id", None)
        if isinstance(pad_id, int):
            return pad_id
    return None


def _parameter_names(model: nn.Module) -> list[str]:
    """The names of the forward's arguments, in order."""
    try:
        return list(signature(model.forward).parameters)
    except (TypeError, ValueError):
        return []


def _name_of(path: str, names: list[str]) -> str:
    """The argument's name: positions count from 0, a single input is the first."""
    index = int(path) if path.isdigit() else 0 if not path else None
    return path if index is None else names[index] if index < len(names) else ""
