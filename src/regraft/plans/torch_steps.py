"""The steps that torch's modules and functions without arrays do, and the module that does a step."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from regraft.plans.steps import (
    Absent,
    Activation,
    CallStep,
    Function,
    ModuleStep,
    Named,
    Pool,
    Sides,
    Step,
    Unknown,
    ZeroPad,
    activation,
)
from regraft.plans.torch_functions import arithmetic, is_taking, named_call, named_function
from regraft.tf_layers import PaddedPool

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU("tanh"),
    "hard_swish": nn.Hardswish, "hard_sigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "selu": nn.SELU, "softplus": nn.Softplus, "mish": nn.Mish, "softsign": nn.Softsign,
}  # fmt: skip
_WITH_NUMBER: dict[str, Callable[..., nn.Module]] = {
    "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "celu": nn.CELU, "clip": nn.Hardtanh,
}  # fmt: skip
_INERT_MODULES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.modules.dropout._DropoutNd, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Fold, nn.Unfold,
)  # fmt: skip
# timm's and torchvision's, by name: neither is imported.
_INERT_NAMES = frozenset(
    {"DropPath", "StochasticDepth", "SelectAdaptivePool2d", "FastAdaptiveAvgPool", "PatchDropout", "Permute"}
)
_INERT_CALLS = frozenset(
    {
        "mean", "flatten", "reshape", "view", "permute", "transpose", "contiguous", "dropout", "adaptive_avg_pool2d",
        "adaptive_avg_pool1d", "squeeze", "unsqueeze", "getitem", "chunk", "split", "unbind", "to", "float", "expand",
        "type_as", "clone", "detach", "t", "flatten_", "repeat", "expand_as", "roll", "unflatten", "movedim",
        "swapaxes", "narrow", "select", "index_select", "half", "bfloat16", "double", "cpu", "cuda", "pixel_shuffle",
        "pixel_unshuffle", "channel_shuffle", "view_as", "reshape_as", "unfold", "tile", "moveaxis", "gather", "stack",
        "squeeze_", "unsqueeze_", "dropout1d", "dropout2d", "dropout3d", "drop_path", "stochastic_depth", "checkpoint",
        "adaptive_avg_pool3d", "is_floating_point", "cat",
    }
)  # fmt: skip
_POOL_CALL = re.compile(r"(?:max|avg)_pool[123]d")
_SAME_POOLS = {"MaxPool2dSame": "max", "AvgPool2dSame": "average"}  # of timm


def steps_of_module(module: nn.Module, name: str) -> tuple[Step, ...]:
    """What a module without arrays does, the last step first; none for one that changes no value."""
    if isinstance(module, _INERT_MODULES) or type(module).__name__ in _INERT_NAMES:
        return ()
    function = _pool_of_module(module) or _pad_of_module(module) or named_function(module) or _activation_of(module)
    kind = {Pool: "pool", Activation: "activation", Named: "step"}.get(type(function))
    return (Step(function, ModuleStep(name, kind) if kind else None),)  # type: ignore[arg-type]  # a StepKind


def steps_of_call(word: str, args: Sequence[Any], kwargs: Mapping[str, Any], where: CallStep) -> tuple[Step, ...]:
    """What a call of a function with one tensor does."""
    if word in _INERT_CALLS and not is_taking(word, args):
        return ()
    if _POOL_CALL.fullmatch(word):
        return (Step(_pool_of_call(word, args, kwargs), where),)
    if word == "pad" and _adds_zeros(args, kwargs):
        return (Step(_zero_pad(kwargs["pad"] if "pad" in kwargs else args[1]), where),)
    if word == "glu":  # a half times the sigmoid of the other: where halves are taken, graphs show x · sigmoid(x)
        return (Step(Activation("silu"), where),)
    function = arithmetic(word, args) or named_call(word, args, kwargs)
    if function is None and len(args) == 1:
        function = activation(word.rstrip("_"))
    return (Step(function or Unknown(word), where),)


def _adds_zeros(args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether a call of functional.pad adds fixed numbers of zeros."""
    given = {**dict(zip(("input", "pad", "mode", "value"), args, strict=False)), **kwargs}
    widths = given.get("pad")
    is_fixed = isinstance(widths, (list, tuple)) and all(isinstance(width, int) for width in widths)
    return is_fixed and given.get("mode", "constant") == "constant" and not given.get("value")


def _pool_of_module(module: nn.Module) -> Pool | None:
    if isinstance(module, PaddedPool):
        return Pool(module.kind, module.kernel_size, module.stride, module.padding, module.zeros)
    kind = _SAME_POOLS.get(type(module).__name__)
    if kind is not None:
        counts = kind == "average" and bool(getattr(module, "count_include_pad", False))
        return Pool(kind, _each(module.kernel_size, 2), _each(module.stride, 2), "same", counts)
    if isinstance(module, _MaxPoolNd):
        if set(_each(module.dilation, 1)) != {1}:
            return None
        return _pool("max", _rank(module), module.kernel_size, module.stride, module.padding, module.ceil_mode)
    if isinstance(module, _AvgPoolNd):
        settings: Any = module  # torch types none of them
        size, stride, padding = settings.kernel_size, settings.stride, settings.padding
        pool = _pool("average", _rank(module), size, stride, padding, settings.ceil_mode)
        return replace(pool, zeros=bool(settings.count_include_pad))
    return None


def _pad_of_module(module: nn.Module) -> ZeroPad | None:
    """Zeros around a map; reflections and other values are unknown functions."""
    if isinstance(module, nn.modules.padding._ConstantPadNd) and not module.value:
        return _zero_pad(module.padding)
    return None


def _zero_pad(widths: Sequence[int]) -> ZeroPad:
    """torch counts axes from the last one: (left, right, top, bottom)."""
    pairs = tuple(zip(widths[::2], widths[1::2], strict=True))
    return ZeroPad(pairs[::-1])


def _rank(module: nn.Module) -> int:
    """2 for MaxPool2d, and for a class of the user's own below it."""
    digits = [int(kind.__name__[-2]) for kind in type(module).__mro__ if kind.__name__.endswith(("1d", "2d", "3d"))]
    return digits[0] if digits else 2


def _pool_of_call(word: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Pool:
    kind = "max" if word.startswith("max") else "average"
    names = ["input", "kernel_size", "stride", "padding"]
    names += ["dilation", "ceil_mode"] if kind == "max" else ["ceil_mode", "count_include_pad"]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    stride = given.get("stride") or given["kernel_size"]
    padding, ceil = given.get("padding", 0), bool(given.get("ceil_mode"))
    pool = _pool(kind, int(word[-2]), given["kernel_size"], stride, padding, ceil)
    return replace(pool, zeros=kind == "average" and bool(given.get("count_include_pad", True)))


def _pool(kind: str, rank: int, size: object, stride: object, padding: object, ceil: bool) -> Pool:
    sides: Sides = tuple((side, side) for side in _each(padding, rank))
    return Pool(kind, _each(size, rank), _each(stride, rank), sides, ceil=bool(ceil))


def _each(value: object, rank: int) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return numbers * rank if len(numbers) == 1 else numbers


def _activation_of(module: nn.Module) -> Function:
    """The activation; unknown for a module that is none of torch's or timm's."""
    if isinstance(module, nn.GELU):
        return Activation("gelu_tanh" if module.approximate == "tanh" else "gelu")
    if isinstance(module, nn.LeakyReLU):
        return Activation(f"leaky_relu({module.negative_slope:g})")
    if isinstance(module, nn.ELU | nn.CELU):
        return Activation(f"{type(module).__name__.lower()}({module.alpha:g})")
    name = type(module).__name__  # timm has classes of its own: Swish, GELU, HardSwishMe
    return activation(name) or Unknown(name)


def module_for(function: Function | Absent) -> nn.Module | None:
    """A module that does the step; None where there is none. Nothing is a module, too.

    >>> module_for(Activation("silu")), module_for(Absent("pool")), module_for(Activation("softmax"))
    (SiLU(), Identity(), None)
    """
    if isinstance(function, Absent):
        return nn.Identity()
    if isinstance(function, Pool):
        return _pooling(function)
    name, _, number = function.name.partition("(") if isinstance(function, Activation) else ("", "", "")
    if number:
        return _WITH_NUMBER[name](*map(float, number.rstrip(")").split(",")))
    return _ACTIVATIONS[name]() if name in _ACTIVATIONS else None


def _pooling(pool: Pool) -> nn.Module | None:
    """torch's own module where it can express the pooling, else the one that pads by itself."""
    if pool.ceil:
        return None
    sizes: dict[str, Any] = {"kernel_size": pool.size, "stride": pool.stride}
    index = len(pool.size) - 1
    if isinstance(pool.padding, str) or not _torch_pads(pool, pool.padding):
        return PaddedPool(pool.kind, pool.size, pool.stride, pool.padding, zeros=pool.zeros)
    sizes["padding"] = tuple(low for low, _ in pool.padding) or 0
    if pool.kind == "max":
        return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[index](**sizes)
    return (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[index](**sizes, count_include_pad=pool.zeros)


def _torch_pads(pool: Pool, sides: Sides) -> bool:
    """torch pads both sides alike and by at most half of the window, and never a maximum with zeros."""
    is_even = all(low == high and 2 * low <= width for (low, high), width in zip(sides, pool.size, strict=False))
    return is_even and not (pool.kind == "max" and pool.zeros)
