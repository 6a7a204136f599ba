"""A list of arrays that is a chain of convolutions and dense layers, built as the user describes what it leaves out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from regraft.arrays import Checkpoint
from regraft.errors import BuildError
from regraft.foundation.wording import near_names
from regraft.networks.network import Array, Network, NetworkInput, Node
from regraft.plans.layouts import OURS, axis_operations, known_layout, stored_axes

_ACTIVATIONS = ("relu", "tanh", "sigmoid", "softplus", "elu", "selu", "gelu", "silu", "linear")
_LAST = (*_ACTIVATIONS, "softmax")
_CHANNELS_LAST = ("tensorflow", "tensorflow-or-flax", "flax", "haiku", "mlx", "tflite")
_VALUES: Mapping[str, Mapping[str, Any]] = {
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": False},
    "softmax": {"axis": -1},
}


@dataclass(frozen=True)
class Chain:
    """What a list of arrays does not record.

    activation  behind every layer but the last one
    layout      whose axis order the arrays follow: "theano", "tensorflow", "torch"
    last        the activation behind the last layer
    image       of convolutions: the input, (channels, height, width)
    padding     of convolutions: "valid" or "same"
    stride      of convolutions
    pool        of convolutions: the size of the max-pooling behind each, 1 for none
    """

    activation: str = ""
    layout: str = ""
    last: str = "linear"
    image: Sequence[int] = ()
    padding: str = ""
    stride: int = 0
    pool: int = 0


@dataclass(frozen=True)
class _Layer:
    """A weight with its bias: the names of the two in the checkpoint."""

    name: str
    weight: str
    bias: str = ""


@dataclass
class _Draft:
    """The nodes so far, and the value that they give."""

    nodes: list[Node] = field(default_factory=list)
    value: str = "x"

    def add(
        self, operator: str, layer: str = "", arrays: Mapping[str, Array] | None = None, **settings: object
    ) -> None:
        """One more step."""
        output = f"{operator}:{len(self.nodes)}"
        self.nodes.append(Node(operator, (self.value,), (output,), settings, layer, arrays or {}))
        self.value = output

    def activate(self, word: str) -> None:
        """An activation; none for "linear"."""
        if word != "linear":
            self.add(word, **_VALUES.get(word, {}))


def chain_network(checkpoint: Checkpoint, given: Mapping[str, object]) -> Network:
    """The arrays in their order: convolutions, then dense layers, each with its bias.

    given  the fields of `Chain`

    Raises BuildError with everything that is missing or does not fit.
    """
    chain = _chain_of(checkpoint, given)
    layers = _layers_of(checkpoint)
    ranks = [len(checkpoint[layer.weight].shape) for layer in layers]
    _check_ranks(checkpoint, ranks)
    if ranks[0] == 4:
        _check_convolutions(checkpoint, chain)
    draft, is_last = _Draft(), chain.layout in _CHANNELS_LAST
    for layer, rank, following in zip(layers, ranks, [*ranks[1:], 0], strict=True):
        activation = chain.activation if following else chain.last
        if rank == 4:
            _convolution(checkpoint, chain, layer, draft, activation)
        else:
            draft.add("linear", layer.name, _arrays(checkpoint, chain, layer, "dense"))
            draft.activate(activation)
        if rank == 4 and following == 2:
            draft.add("flatten", start=1)
    entry = NetworkInput("x", (None, *_entry_shape(checkpoint, chain, layers[0], is_last)))
    return Network((entry,), tuple(draft.nodes), (draft.value,), name=checkpoint.path.stem)


def _entry_shape(checkpoint: Checkpoint, chain: Chain, first: _Layer, is_last: bool) -> tuple[int, ...]:
    if chain.image:
        channels, *sizes = chain.image
        return (*sizes, channels) if is_last else (channels, *sizes)
    weight = _arrays(checkpoint, chain, first, "dense")["weight"]
    return (weight.shape_in(checkpoint)[1],)


# --- what the user says -----------------------------------------------------------------------------------------------


def _chain_of(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Chain:
    """The description, checked. Raises BuildError with what is missing."""
    names = [entry.name for entry in fields(Chain)]
    values = {**given, "layout": given.get("layout") or checkpoint.layout}
    problems = [f"There is no {key!r}. {near_names(key, names)}" for key in given if key not in names]
    for key, allowed, default in (("activation", _ACTIVATIONS, None), ("last", _LAST, "linear")):
        if values.get(key, default) not in allowed:
            problems.append(f"{key} is {values.get(key)!r}; expected one of {', '.join(allowed)}.")
    if not isinstance(values["layout"], str):
        problems.append('layout is missing: whose axis order the arrays follow, such as "tensorflow" or "theano".')
    if problems:
        raise BuildError("\n".join([f"The chain of {checkpoint.path.name} is not described:", *problems]))
    return Chain(**{**values, "layout": known_layout(values["layout"])})


def _check_convolutions(checkpoint: Checkpoint, chain: Chain) -> None:
    """Raise BuildError for what convolutions need and a list of arrays does not record."""
    problems = []
    if len(chain.image) != 3 or not all(map(_is_size, chain.image)):
        problems.append('image: the input, such as "image": [1, 28, 28] (channels, height, width).')
    if chain.padding not in ("valid", "same"):
        problems.append('padding: "valid" or "same".')
    numbers = {"stride": chain.stride, "pool": chain.pool}
    problems += [f"{key}: a number, 1 for none." for key, value in numbers.items() if not _is_size(value)]
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise BuildError(f"{checkpoint.path.name} has convolutions. Add to chain what it does not record:\n{listed}")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and value > 0


# --- what the file has ------------------------------------------------------------------------------------------------


def _layers_of(checkpoint: Checkpoint) -> list[_Layer]:
    """Weights in the order of the file, each with the vector of its own name, or with the one behind it."""
    weights, vectors = _kernels_and_vectors(checkpoint)
    if weights != sorted(weights, key=_numbers_in):
        raise BuildError(
            f"The kernels of {checkpoint.path.name} are not in the order of their numbers: {', '.join(weights)}. "
            "Which layer follows which is not recorded: write the network in torch."
        )
    layers = []
    for number, (weight, bias) in enumerate(zip(weights, vectors or [""] * len(weights), strict=True), 1):
        if bias and _home(weight) != _home(bias):
            raise BuildError(f"The kernel {weight} and the vector {bias} are not of the same layer.")
        layers.append(_Layer(_home(weight) or f"layer{number}", weight, bias))
    return layers


def _kernels_and_vectors(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """The names of both, in the order of the file; as many vectors as kernels, or none."""
    ranks = {name: len(info.shape) for name, info in checkpoint.infos.items() if info.role == "weight"}
    weights = [name for name, rank in ranks.items() if rank in (2, 4)]
    vectors = [name for name, rank in ranks.items() if rank == 1]
    others = len(ranks) - len(weights) - len(vectors)
    if not weights or others or len(vectors) not in (0, len(weights)):
        raise BuildError(
            f"{checkpoint.path.name} is no chain of dense layers and convolutions: it has {len(weights)} kernels, "
            f"{len(vectors)} vectors and {others} other arrays. "
            "Write the network in torch and match it: plan_reuse(checkpoint, model)."
        )
    return weights, vectors


def _numbers_in(name: str) -> tuple[int, ...]:
    """The numbers in a name; names without numbers stay where they are, behind the others."""
    found = tuple(map(int, re.findall(r"\d{1,9}", _home(name) or name)))
    return found or (1 << 31,)


def _home(name: str) -> str:
    """The layer of an array: "hidden1__kernel" is of hidden1; "" for an array that is a number in a list."""
    match = re.fullmatch(r"(.+?)(?:__|[/._])(?:kernel|weights?|bias(?:es)?|w|b)", name, re.IGNORECASE)
    return match[1] if match else "" if name.isdigit() else re.sub(r"(?i)^(w|b)(?=\d+$)", "layer", name)


def _check_ranks(checkpoint: Checkpoint, ranks: Sequence[int]) -> None:
    if list(ranks) != sorted(ranks, reverse=True):
        raise BuildError(f"{checkpoint.path.name} has dense layers before convolutions, which is no chain.")


# --- layers -----------------------------------------------------------------------------------------------------------


def _arrays(checkpoint: Checkpoint, chain: Chain, layer: _Layer, kind: str) -> dict[str, Array]:
    """The arrays of a layer in torch's order of axes."""
    axes = stored_axes(chain.layout, kind, {})
    weight = Array((layer.weight,), axis_operations(axes, OURS[kind], checkpoint[layer.weight].shape))
    arrays = {"weight": weight}
    if layer.bias:
        count = checkpoint[layer.bias].shape[0]
        if count != weight.shape_in(checkpoint)[0]:
            raise BuildError(
                f"{layer.bias} has {count} numbers, {layer.weight} has {weight.shape_in(checkpoint)[0]} outputs."
            )
        arrays["bias"] = Array((layer.bias,))
    return arrays


def _convolution(checkpoint: Checkpoint, chain: Chain, layer: _Layer, draft: _Draft, activation: str) -> None:
    """A convolution, its activation and its pooling."""
    arrays, is_last = _arrays(checkpoint, chain, layer, "conv"), chain.layout in _CHANNELS_LAST
    draft.add(
        "conv", layer.name, arrays, kernel=arrays["weight"].shape_in(checkpoint)[2:], padding=chain.padding, groups=1,
        stride=(chain.stride, chain.stride), dilation=(1, 1), channels_last=is_last,
    )  # fmt: skip
    draft.activate(activation)
    if chain.pool > 1:
        window = (chain.pool, chain.pool)
        draft.add("max_pool", kernel=window, stride=window, padding=((0, 0), (0, 0)), channels_last=is_last)
