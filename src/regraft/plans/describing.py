"""A torch model as plain data: its layers, their kinds, arrays, settings and ties."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from regraft.errors import PlanError
from regraft.plans.layers import Kind, Layer, TargetArray
from regraft.tf_layers import ResetBeforeGRU

_KINDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Kind], ...] = (
    (_ConvTransposeNd, "conv_transpose"),
    (_ConvNd, "conv"),
    (nn.Linear, "dense"),
    (_NormBase, "batch_norm"),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), "norm"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    (nn.PReLU, "prelu"),
    ((nn.LSTM, nn.LSTMCell), "lstm"),
    ((nn.GRU, nn.GRUCell, ResetBeforeGRU), "gru"),
    ((nn.RNN, nn.RNNCell), "rnn"),
    (nn.MultiheadAttention, "attention"),
)
_SETTINGS = (
    "eps", "momentum", "stride", "padding", "dilation", "groups", "output_padding", "padding_mode", "hidden_size",
    "num_layers", "bidirectional", "batch_first", "num_heads", "embed_dim", "in_channels", "out_channels",
)  # fmt: skip

# timm's convolutions that pad as TensorFlow does, whatever their `padding` says.
_PADS_SAME = ("Conv2dSame", "ScaledStdConv2dSame", "StdConv2dSame")


def describe_model(model: nn.Module) -> tuple[Layer, ...]:
    """The modules that own parameters or persistent buffers, in the order of the model's state dict.

    Raises PlanError for a model whose arrays have no shape or no memory yet.
    """
    first_names: dict[int, str] = {}
    layers = []
    inside: list[str] = []  # of layers whose children's arrays are described with them
    for name, module in model.named_modules(remove_duplicate=False):
        if name.startswith(tuple(inside)):
            continue
        prefix = f"{name}." if name else ""
        inside += [prefix + child for child in _inner_children(module)]
        arrays = {
            leaf: _describe(tensor, prefix + leaf, is_buffer, first_names)
            for leaf, tensor, is_buffer in _arrays_of(module)
        }
        if arrays:
            settings, class_name = settings_of(module), type(module).__name__
            layers.append(Layer(name, kind_of(module), arrays, settings, class_name, _is_plain(module)))
    return tuple(layers)


def kind_of(module: nn.Module) -> Kind:
    """What decides the axis orders of the module's arrays; "other" for a module of no known class."""
    kind: Kind = next((kind for classes, kind in _KINDS if isinstance(module, classes)), "other")
    if isinstance(module, _ConvNd) and kind == "conv" and module.groups == module.in_channels > 1:
        return "depthwise"
    return "norm" if kind == "other" and _is_own_norm(module) else kind


def _is_own_norm(module: nn.Module) -> bool:
    """Norms of timm and transformers, by name and vectors: RmsNorm, LlamaRMSNorm …"""
    if "norm" not in type(module).__name__.lower():
        return False
    ranks = {tensor.ndim for _, tensor, _ in _own_arrays(module)}
    return ranks == {1}


def _is_plain(module: nn.Module) -> bool:
    """Whether the forward is torch's own or of this package, or does no more than padding."""
    home = getattr(type(module).forward, "__module__", None)
    # With the dots: a user's own package may be called regraft_more, and a job's factory file is called so.
    return str(home).startswith(("torch.nn.", "regraft.")) or type(module).__name__ == "Conv2dSame"


def settings_of(module: nn.Module) -> dict[str, object]:
    """What is no weight but changes the function: eps, padding, gates …, under the module's own words."""
    settings = _attributes(module)
    for other_name in ("variance_epsilon", "epsilon"):
        if hasattr(module, other_name):
            settings.setdefault("eps", getattr(module, other_name))
    if type(module).__name__ in _PADS_SAME:
        settings["padding"] = "same"
    if "bias" in module._parameters:
        settings["bias"] = module._parameters["bias"] is not None
    for classes, read in _MORE_SETTINGS:
        settings |= read(module) if isinstance(module, classes) else {}
    return settings


def _attributes(module: nn.Module) -> dict[str, object]:
    """The settings that are attributes; lists as tuples."""
    # Asked one by one, hasattr would search parameters, buffers and children for each of them.
    names = [name for name in _SETTINGS if name in vars(module) or hasattr(type(module), name)]
    values = [getattr(module, name) for name in names]
    return {name: tuple(v) if isinstance(v, list) else v for name, v in zip(names, values, strict=True)}


# What modules compute without having it as a setting of that name.
_MORE_SETTINGS: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any], dict[str, object]]], ...] = (
    (
        (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell),
        lambda module: {"activation": "tanh", "recurrent_activation": "sigmoid"},
    ),
    ((nn.RNN, nn.RNNCell), lambda module: {"activation": module.nonlinearity}),
    ((nn.RNNBase, nn.RNNCellBase, ResetBeforeGRU), lambda module: {"go_backwards": False}),
    ((nn.RNNBase, ResetBeforeGRU, nn.MultiheadAttention), lambda module: {"masked": False}),
    ((nn.RNNBase,), lambda module: {"merge": "concat"} if module.bidirectional else {}),
    ((nn.GroupNorm,), lambda module: {"groups": module.num_groups}),
    ((nn.GRU, nn.GRUCell), lambda module: {"reset_after": True}),
    ((ResetBeforeGRU,), lambda module: {"reset_after": False}),
)


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer under each of its names: what `Layer.full` names."""
    return {
        f"{name}.{leaf}" if name else leaf: tensor
        for name, module in model.named_modules(remove_duplicate=False)
        for leaf, tensor, _ in _own_arrays(module)
    }


def _own_arrays(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """(name in the module, tensor, whether it is a buffer)."""
    for leaf, parameter in module._parameters.items():
        if parameter is not None:
            yield leaf, parameter, False
    for leaf, buffer in module._buffers.items():
        if buffer is not None and leaf not in module._non_persistent_buffers_set:
            yield leaf, buffer, True


def _arrays_of(module: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """The module's own arrays, and those of its inner children, as torch's state dict orders them."""
    yield from _own_arrays(module)
    for child in _inner_children(module):
        for name, part in module.get_submodule(child.rstrip(".")).named_modules():
            for leaf, tensor, is_buffer in _own_arrays(part):
                yield f"{child}{name}.{leaf}" if name else f"{child}{leaf}", tensor, is_buffer


def _inner_children(module: nn.Module) -> list[str]:
    """The children that are a part of the layer itself, with a dot.

    An attention's projection of its output comes from the same source layer. Parametrizations (weight_norm,
    spectral_norm, orthogonal) hold what the layer's own weight is computed from.
    """
    if isinstance(module, nn.MultiheadAttention):
        return ["out_proj."]
    return ["parametrizations."] if is_parametrized(module) else []


def _describe(tensor: Tensor, name: str, is_buffer: bool, first_names: dict[int, str]) -> TargetArray:
    if is_lazy(tensor):
        raise PlanError(f"{name} has no shape yet (a lazy module). Call the model once on an example first.")
    first = first_names.setdefault(id(tensor), name)
    return TargetArray(
        shape=tuple(tensor.shape),
        dtype=dtype_name(tensor.dtype),
        is_buffer=is_buffer,
        tied_to="" if first == name else first,
    )


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float32 → "float32"."""
    return str(dtype).removeprefix("torch.")
