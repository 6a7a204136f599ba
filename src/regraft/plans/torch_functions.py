"""The other functions of a torch model that are no layers, by the names that files have for them too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx, nn

from regraft.plans.steps import Activation, Affine, Function, Named, Unknown

_PLUS = {"add": 1.0, "sub": -1.0, "subtract": -1.0, "isub": -1.0, "sub_": -1.0}
_TIMES = frozenset({"mul"})
_OVER = frozenset({"truediv", "div", "divide", "div_", "itruediv"})
_ROOTS = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2.0, "reciprocal": -1.0}
_PLAIN = {"abs": "abs", "exp": "exp", "log": "log", "erf": "erf", "sin": "sin", "cos": "cos", "flip": "flip",
          "normalize": "normalize", "sign": "sign", "floor": "floor", "round": "round"}  # fmt: skip
_OVER_PLACES = {"amax": "global max", "amin": "global min", "sum": "global sum", "var": "global var",
                "std": "global std", "logsumexp": "global logsumexp"}  # fmt: skip


def arithmetic(word: str, args: Sequence[object]) -> Function | None:
    """What a call with one map and one number computes; None for another call."""
    if word in ("neg", "neg_"):
        return Affine(-1.0)
    if word in _ROOTS:
        return Named(f"power {_ROOTS[word]:g}")
    number = next((value for value in args if isinstance(value, int | float) and not isinstance(value, bool)), None)
    if number is None or len(args) != 2:
        return None
    return _map_first(word, number) if isinstance(args[0], fx.Node) else _number_first(word, number)


def _map_first(word: str, number: float) -> Function | None:
    """Of a map and a number, as x - 2."""
    if word in _PLUS:
        return Affine(1.0, _PLUS[word] * number)
    if word in _TIMES:
        return Affine(number)
    if word in _OVER and number:
        return Affine(1 / number)
    return Named(f"power {number:g}") if word in ("pow", "pow_") else None


def _number_first(word: str, number: float) -> Function | None:
    """Of a number and a map, as 2 - x."""
    if word in _PLUS:
        return Affine(_PLUS[word], number)
    if word in _TIMES:
        return Affine(number)
    return Named(f"{number:g} over it") if word in _OVER and number else None


def is_taking(word: str, args: Sequence[object]) -> bool:
    """Whether a call picks by a list of indices, as x[:, [2, 1, 0]]: then values come in another order."""
    return word == "getitem" and len(args) > 1 and _indices(args[1]) is not None


def _indices(key: object) -> list[int] | None:
    keys = key if isinstance(key, tuple) else (key,)
    return next((part for part in keys if isinstance(part, list) and len(part) > 1), None)


def named_call(word: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Function | None:
    """The function of a call, where it has a name; None for others."""
    if word in _PLAIN:
        return Named(_PLAIN[word])
    return _CALLS[word](args, kwargs) if word in _CALLS else None


def _given(names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _interpolate(args: Sequence[object], kwargs: Mapping[str, object]) -> Function:
    given = _given(("input", "size", "scale_factor", "mode", "align_corners"), args, kwargs)
    return _resize(str(given.get("mode", "nearest")), bool(given.get("align_corners")))


def _resize(mode: str, is_aligned: bool) -> Named:
    """Linear along one, two or three axes is one function."""
    word = "linear" if mode.endswith("linear") else mode
    return Named(f"resize {word}{', corners aligned' * is_aligned}")


def _softmax(args: Sequence[object], kwargs: Mapping[str, object], *, word: str = "softmax") -> Function:
    dim = _given(("input", "dim"), args, kwargs).get("dim")
    return softmax_over(dim if isinstance(dim, int) else None, word)


def softmax_over(axis: int | None, word: str = "softmax") -> Function:
    """A softmax over the channels, in which axis torch has them; over other axes it is another function."""
    return Activation(word) if axis in (None, 1, -1) else Named(f"{word} over axis {axis}")


def _clip(args: Sequence[object], kwargs: Mapping[str, object]) -> Function:
    given = _given(("input", "min", "max"), args, kwargs)
    given = {"min": given.get("min_val", given.get("min")), "max": given.get("max_val", given.get("max"))}
    return clipped(given["min"], given["max"])


def clipped(low: object, high: object) -> Function:
    """Values between two numbers.

    >>> str(clipped(0, 6)), str(clipped(0, None)), str(clipped(-1.0, 1.0))
    ('relu6', 'relu', 'clip(-1, 1)')
    """
    if any(isinstance(bound, fx.Node) for bound in (low, high)):
        return Unknown("clip")
    if low == 0 and high in (None, 6):
        return Activation("relu" if high is None else "relu6")
    return Activation(f"clip({low:g}, {high:g})") if None not in (low, high) else Named(f"clip({low}, {high})")


def _over_places(name: str) -> Callable[[Sequence[Any], Mapping[str, Any]], Function]:
    def named(args: Sequence[object], kwargs: Mapping[str, object]) -> Function:
        dims = _given(("input", "dim"), args, kwargs).get("dim")
        is_global = isinstance(dims, list | tuple) and len(dims) > 1
        return Named(name) if is_global else Unknown(name.removeprefix("global "))

    return named


_CALLS: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Function]] = {
    "interpolate": _interpolate,
    "upsample": _interpolate,
    "softmax": _softmax,
    "log_softmax": lambda args, kwargs: _softmax(args, kwargs, word="log_softmax"),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), _clip),
    "hardtanh": lambda args, kwargs: _clip((*args, -1.0, 1.0) if len(args) == 1 else args, kwargs),
    "softplus": lambda args, kwargs: _softplus(_given(("input", "beta"), args, kwargs).get("beta", 1)),
    "leaky_relu": lambda args, kwargs: _with_number("leaky_relu", "negative_slope", 0.01, args, kwargs),
    "elu": lambda args, kwargs: _with_number("elu", "alpha", 1.0, args, kwargs),
    "celu": lambda args, kwargs: _with_number("celu", "alpha", 1.0, args, kwargs),
    "gelu": lambda args, kwargs: Activation("gelu_tanh" if kwargs.get("approximate") == "tanh" else "gelu"),
    "adaptive_max_pool2d": lambda args, kwargs: _adaptive_max(_given(("input", "output_size"), args, kwargs)),
    "getitem": lambda args, kwargs: Named(f"take {_indices(args[1])}"),
    **{word: _over_places(name) for word, name in _OVER_PLACES.items()},
}


def _softplus(slope: object) -> Function:
    return Activation("softplus") if slope == 1 else Named(f"softplus of slope {slope}")


def _with_number(word: str, name: str, usual: float, args: Sequence[object], kwargs: Mapping[str, object]) -> Function:
    number = _given(("input", name), args, kwargs).get(name, usual)
    return Activation(f"{word}({number:g})") if isinstance(number, int | float) else Unknown(word)


def _adaptive_max(given: Mapping[str, object]) -> Function:
    return _global_max(given.get("output_size"))


def _global_max(size: object) -> Function:
    sizes = set(size) if isinstance(size, list | tuple) else {size}
    return Named("global max") if sizes == {1} else Unknown("adaptive max pooling")


def named_function(module: nn.Module) -> Function | None:
    """The function of a module without arrays, where it has a name; None for others."""
    kind = next((kind for kind in _MODULES if isinstance(module, kind)), None)
    return None if kind is None else _MODULES[kind](module)


_MODULES: Mapping[type[nn.Module], Callable[[Any], Function]] = {
    nn.Upsample: lambda module: _resize(module.mode, bool(module.align_corners)),
    nn.LocalResponseNorm: lambda module: response_norm(module.size, module.alpha, module.beta, module.k),
    nn.Softmax: lambda module: softmax_over(module.dim),
    nn.Softmax2d: lambda module: softmax_over(1),
    nn.LogSoftmax: lambda module: softmax_over(module.dim, "log_softmax"),
    nn.ReLU6: lambda module: Activation("relu6"),  # a kind of Hardtanh
    nn.Hardtanh: lambda module: clipped(module.min_val, module.max_val),
    nn.AdaptiveMaxPool1d: lambda module: _global_max(module.output_size),
    nn.AdaptiveMaxPool2d: lambda module: _global_max(module.output_size),
    nn.AdaptiveMaxPool3d: lambda module: _global_max(module.output_size),
    nn.Softplus: lambda module: _softplus(module.beta),
    nn.GLU: lambda module: Activation("silu"),  # see the call glu
    nn.modules.pooling._MaxPoolNd: lambda module: Named("max pooling with holes"),
}


def response_norm(size: int, alpha: float, beta: float, bias: float) -> Named:
    """A norm over neighbouring channels, with torch's meaning of its numbers."""
    return Named(f"local response norm {size}, {alpha:g}, {beta:g}, {bias:g}")
