"""A torch model as plain data: its layers, their kinds, arrays, settings and ties."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

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
    attentions: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(attention + ".") for attention in attentions):
            continue  # out_proj belongs to the attention around it: its arrays come from the same source layer
        if isinstance(module, nn.MultiheadAttention):
            attentions.append(name)
        arrays = {
            leaf: _describe(tensor, f"{name}.{leaf}" if name else leaf, is_buffer, first_names)
            for leaf, tensor, is_buffer in _own_arrays(module)
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
    tensors = [tensor for _, tensor, _ in _own_arrays(module)]
    if (
        kind == "other"
        and tensors
        and "norm" in type(module).__name__.lower()
        and all(tensor.ndim == 1 for tensor in tensors)
    ):
        return "norm"  # own norms of timm and transformers: RmsNorm, LlamaRMSNorm …
    return kind


def _is_plain(module: nn.Module) -> bool:
    """Whether the forward is torch's own or of this package, or does no more than padding."""
    home = getattr(type(module).forward, "__module__", None)
    # With the dots: a user's own package may be called regraft_more, and a job's factory file is called so.
    return str(home).startswith(("torch.nn.", "regraft.")) or type(module).__name__ == "Conv2dSame"


def settings_of(module: nn.Module) -> dict[str, object]:
    """What is no weight but changes the function: eps, padding, gates …, under the module's own words."""
    # Asked one by one, hasattr would search parameters, buffers and children for each of them.
    settings: dict[str, object] = {
        name: getattr(module, name) for name in _SETTINGS if name in vars(module) or hasattr(type(module), name)
    }
    for variance_epsilon in ("variance_epsilon", "epsilon"):
        if hasattr(module, variance_epsilon):
            settings.setdefault("eps", getattr(module, variance_epsilon))
    if type(module).__name__ in _PADS_SAME:
        settings["padding"] = "same"
    if "bias" in module._parameters:
        settings["bias"] = module._parameters["bias"] is not None
    if isinstance(module, (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell)):
        settings |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        settings["activation"] = module.nonlinearity
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase, ResetBeforeGRU)):
        settings["go_backwards"] = False
    if isinstance(module, nn.GroupNorm):
        settings["groups"] = module.num_groups
    if isinstance(module, (nn.GRU, nn.GRUCell, ResetBeforeGRU)):
        settings["reset_after"] = not isinstance(module, ResetBeforeGRU)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer under each of its names: what `Layer.full` names."""
    return {
        f"{name}.{leaf}" if name else leaf: tensor
        for name, module in model.named_modules(remove_duplicate=False)
        for leaf, tensor, _ in _own_arrays(module, deep=False)
    }


def _own_arrays(module: nn.Module, *, deep: bool = True) -> Iterator[tuple[str, Tensor, bool]]:
    for leaf, parameter in module._parameters.items():
        if parameter is not None:
            yield leaf, parameter, False
    for leaf, buffer in module._buffers.items():
        if buffer is not None and leaf not in module._non_persistent_buffers_set:
            yield leaf, buffer, True
    if deep and isinstance(module, nn.MultiheadAttention):
        for leaf, tensor, is_buffer in _own_arrays(module.out_proj):
            yield f"out_proj.{leaf}", tensor, is_buffer


def _describe(tensor: Tensor, name: str, is_buffer: bool, first_names: dict[int, str]) -> TargetArray:
    if is_lazy(tensor):
        raise PlanError(f"{name} has no shape yet (a lazy module): call the model once on an example, then plan.")
    if tensor.device.type == "meta":
        raise PlanError(f"{name} has no memory (device meta): call model.to_empty(device='cpu'), then plan.")
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
