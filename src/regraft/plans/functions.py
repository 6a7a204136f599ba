"""What torch's modules and functions without arrays compute, in the words of `steps`, and back: a word → a module."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from regraft.plans.steps import UNKNOWN, Pool, Sides, Step, activation_step, pool_of
from regraft.tf_layers import PaddedPool

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU, "gelu_tanh": lambda: nn.GELU("tanh"),
    "hard_swish": nn.Hardswish, "hard_sigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "selu": nn.SELU, "softplus": nn.Softplus, "mish": nn.Mish,
}  # fmt: skip
_INERT_MODULES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.modules.dropout._DropoutNd,
)  # fmt: skip
# timm's and torchvision's, by name: neither is imported.
_INERT_NAMES = frozenset(
    {"DropPath", "StochasticDepth", "SelectAdaptivePool2d", "FastAdaptiveAvgPool", "PatchDropout", "Permute"}
)
_INERT_CALLS = frozenset(
    {
        "mean", "flatten", "reshape", "view", "permute", "transpose", "contiguous", "dropout", "adaptive_avg_pool2d",
        "adaptive_avg_pool1d", "squeeze", "unsqueeze", "getitem", "chunk", "split", "unbind", "to", "float", "expand",
        "type_as", "clone", "detach", "t", "flatten_",
    }
)  # fmt: skip
_SAME_POOLS = {"MaxPool2dSame": "max", "AvgPool2dSame": "average"}  # of timm


def steps_of_module(module: nn.Module, where: tuple[str, str]) -> tuple[Step, ...]:
    """What a module without arrays does, the last first; none for one that changes no value."""
    if isinstance(module, _INERT_MODULES) or type(module).__name__ in _INERT_NAMES:
        return ()
    pool = _pool_of_module(module)
    if pool is not None:
        return (Step("pool", str(pool), where),)
    word = _word_of_activation(module)
    return (Step("activation", word, where),) if word else (Step("unknown", type(module).__name__, where),)


def steps_of_call(
    word: str, args: Sequence[Any], kwargs: Mapping[str, Any], where: tuple[str, str]
) -> tuple[Step, ...]:
    """What a call of a function with one tensor does."""
    if word in _INERT_CALLS:
        return ()
    if word.startswith(("max_pool", "avg_pool")) and word[-2:] in ("1d", "2d", "3d"):
        return (Step("pool", str(_pool_of_call(word, args, kwargs)), where),)
    if word == "gelu" and kwargs.get("approximate") == "tanh":
        word = "gelu_tanh"
    step = activation_step(word.rstrip("_")) if len(args) == 1 else None
    return (Step(step.what, step.text, where),) if step else (Step(UNKNOWN.what, word, where),)


def _pool_of_module(module: nn.Module) -> Pool | None:
    if isinstance(module, PaddedPool):
        return Pool(module.kind, module.kernel_size, module.stride, module.padding, module.zeros)
    kind = _SAME_POOLS.get(type(module).__name__)
    if kind is not None:
        counts = kind == "average" and bool(getattr(module, "count_include_pad", False))
        return Pool(kind, _each(module.kernel_size, 2), _each(module.stride, 2), "same", counts)
    if not isinstance(module, (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)):
        return None
    kind = "max" if isinstance(module, nn.modules.pooling._MaxPoolNd) else "average"
    rank = int(type(module).__name__[-2]) if type(module).__name__[-2:-1].isdigit() else 2
    zeros = kind == "average" and bool(module.count_include_pad)
    return _pool(kind, rank, module.kernel_size, module.stride, module.padding, module.ceil_mode, zeros)


def _pool_of_call(word: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pool:
    kind = "max" if word.startswith("max") else "average"
    names = ["input", "kernel_size", "stride", "padding"]
    names += ["dilation", "ceil_mode"] if kind == "max" else ["ceil_mode", "count_include_pad"]
    told = {**dict(zip(names, args, strict=False)), **kwargs}
    zeros = kind == "average" and bool(told.get("count_include_pad", True))
    stride = told.get("stride") or told["kernel_size"]
    return _pool(kind, int(word[-2]), told["kernel_size"], stride, told.get("padding", 0), told.get("ceil_mode"), zeros)


def _pool(kind: str, rank: int, size: Any, stride: Any, padding: Any, ceil: Any, zeros: bool) -> Pool:
    sides: Sides = tuple((side, side) for side in _each(padding, rank))
    return Pool(kind, _each(size, rank), _each(stride, rank), sides, zeros, bool(ceil))


def _each(value: Any, rank: int) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return numbers * rank if len(numbers) == 1 else numbers


def _word_of_activation(module: nn.Module) -> str:
    """The activation's name; "" for a module that is none of torch's or timm's."""
    if isinstance(module, nn.GELU):
        return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    if isinstance(module, nn.LeakyReLU):
        return f"leaky_relu({module.negative_slope:g})"
    if isinstance(module, nn.ELU):
        return f"elu({module.alpha:g})"
    if isinstance(module, nn.Softmax):
        return "softmax"
    step = activation_step(type(module).__name__)  # timm has classes of its own: Swish, GELU, HardSwishMe
    return step.text if step is not None else ""


def module_for(text: str) -> nn.Module | None:
    """A module that does the step; None where there is none. "no …" is a module that does nothing.

    >>> module_for("max 3x3, stride 2x2, padding 1x1"), module_for("silu")
    (MaxPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=1, ceil_mode=False), SiLU())
    """
    if text.startswith("no "):
        return nn.Identity()
    pool = pool_of(text)
    if pool is not None:
        return _pooling(pool)
    name, _, number = text.partition("(")
    if name in ("leaky_relu", "elu") and number:
        return (nn.LeakyReLU if name == "leaky_relu" else nn.ELU)(float(number.rstrip(")")))
    return _ACTIVATIONS[name]() if name in _ACTIVATIONS else None


def _pooling(pool: Pool) -> nn.Module | None:
    """torch's own module where it can express the pooling, else the one that pads by itself."""
    if pool.ceil:
        return None
    padding = pool.padding
    low = tuple(side[0] for side in padding) if not isinstance(padding, str) else ()
    is_plain = not isinstance(padding, str) and all(one == two for one, two in padding)
    if is_plain and len(pool.size) <= 3 and all(2 * p <= k for p, k in zip(low, pool.size, strict=False)):
        index = len(pool.size) - 1
        sizes: dict[str, Any] = {"kernel_size": pool.size, "stride": pool.stride, "padding": low or 0}
        if pool.kind == "max" and not pool.zeros:
            return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[index](**sizes)
        if pool.kind == "average":
            return (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[index](**sizes, count_include_pad=pool.zeros)
    return PaddedPool(pool.kind, pool.size, pool.stride, padding, zeros=pool.zeros)
