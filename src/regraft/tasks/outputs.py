"""The tensor among a model's outputs that carries its answer."""

from collections.abc import Mapping

from torch import Tensor

from regraft.errors import TrainError


def logits_of(outputs: object) -> Tensor:
    """The tensor among a model's outputs that carries its answer: the output itself, or what is named `logits`.

    Raises TrainError where there is no such tensor.
    """
    logits = find_logits(outputs)
    if logits is None:
        raise TrainError(
            f"The model returns a {type(outputs).__name__} without a tensor named `logits`.\n"
            "Pass a function of outputs and labels as the loss."
        )
    return logits


def find_logits(outputs: object) -> Tensor | None:
    """The same as `logits_of`, or None where there is no such tensor."""
    return outputs if isinstance(outputs, Tensor) else find_output(outputs, "logits")


def find_output(outputs: object, name: str) -> Tensor | None:
    """The tensor of this name among several outputs: a key, an attribute, or the index in a tuple; None for none."""
    if isinstance(outputs, Mapping):
        value = outputs.get(name)
    elif isinstance(outputs, tuple | list) and name.isdigit():
        value = outputs[int(name)] if int(name) < len(outputs) else None
    else:
        value = getattr(outputs, name, None)
    return value if isinstance(value, Tensor) else None
