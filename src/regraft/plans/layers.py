"""The layers of a model as plain data: names, kinds, arrays and settings, without torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "dense", "conv", "depthwise", "conv_transpose", "batch_norm", "norm", "embedding", "prelu",
    "rnn", "lstm", "gru", "attention", "other",
]  # fmt: skip

# Kinds whose weight has axes that frameworks order differently; of the others only the vectors are certain.
ORIENTED: frozenset[str] = frozenset(
    {"dense", "conv", "depthwise", "conv_transpose", "rnn", "lstm", "gru", "attention", "other"}
)


# What torch may call a weight that it computes from other arrays (weight_norm, spectral_norm, pruning).
KERNELS = (
    "weight", "weight_orig", "weight_v", "parametrizations.weight.original1", "parametrizations.weight.original",
)  # fmt: skip


@dataclass(frozen=True)
class TargetArray:
    """One parameter or buffer of the model.

    dtype     in NumPy's words: "float32", "bfloat16" …
    tied_to   the first name of the same tensor, "" when this is the first
    """

    shape: tuple[int, ...]
    dtype: str
    is_buffer: bool = False
    tied_to: str = ""


@dataclass(frozen=True)
class Layer:
    """One module that owns arrays.

    name      dotted, as in the model; "" for the model itself
    kind      what decides the axis orders of its arrays
    arrays    leaf name ("weight", "running_mean" …) → TargetArray
    settings  what is no weight: eps, momentum, padding, stride, bias (whether there is one), hidden_size …
    class_name  the module's class, for messages
    has_pad     whether something unknown before it may pad its input, so that its own padding cannot be judged
    is_plain    whether it computes as torch's own class does: a class with a forward of its own may do more
    """

    name: str
    kind: Kind
    arrays: Mapping[str, TargetArray]
    settings: Mapping[str, object] = field(default_factory=dict)
    class_name: str = ""
    is_plain: bool = True
    has_pad: bool = False

    @property
    def kernel(self) -> TargetArray | None:
        """The array with the axes of the layer's weight: the weight, or what torch computes it from."""
        return next((self.arrays[leaf] for leaf in KERNELS if len(self.shape_of(leaf)) > 1), None)

    def shape_of(self, leaf: str) -> tuple[int, ...]:
        """The array's shape, () where there is no such array."""
        return self.arrays[leaf].shape if leaf in self.arrays else ()

    def full(self, leaf: str) -> str:
        """The array's whole name in the model."""
        return f"{self.name}.{leaf}" if self.name else leaf


def layers_by_array(layers: Iterable[Layer]) -> dict[str, Layer]:
    """The whole name of each array → its layer, in the model's order."""
    return {layer.full(leaf): layer for layer in layers for leaf in layer.arrays}
