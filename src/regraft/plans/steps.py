"""Steps: the pooling, padding and activations between two layers, in one form for all frameworks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Literal

StepKind = Literal["pool", "activation", "step"]
Sides = tuple[tuple[int, int], ...]
_WORDS: dict[StepKind, str] = {"pool": "pooling", "activation": "activation", "step": "operation"}
# Activations whose results are never below 0: zeros around a map then do not change a maximum.
NONNEGATIVE = frozenset({"relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus"})


@dataclass(frozen=True)
class Pool:
    """A pooling. Equal functions are equal objects: padding "same" becomes numbers where the map's size is irrelevant.

    kind      "max" or "average"
    padding   "same" as TensorFlow pads, or (before, after) for each axis; () is none
    zeros     whether the padding counts as zeros; else it is never the largest, and not counted in an average
    ceil      whether the number of windows is rounded up
    """

    kind: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | Sides = ()
    zeros: bool = False
    ceil: bool = False

    def __post_init__(self) -> None:
        padding = self.padding
        if isinstance(padding, str) and all(1 in pair for pair in zip(self.stride, self.size, strict=True)):
            padding = tuple(((width - 1) // 2, width - 1 - (width - 1) // 2) for width in self.size)
        is_padded = isinstance(padding, str) or any(map(any, padding))
        object.__setattr__(self, "padding", padding if is_padded else ())
        object.__setattr__(self, "zeros", self.zeros and is_padded)

    def __str__(self) -> str:
        words = [f"{self.kind} {_crossed(self.size)}, stride {_crossed(self.stride)}"]
        if self.padding:
            words.append(f"padding {_sides_text(self.padding)}{' of zeros' * self.zeros}")
        return ", ".join(words) + ", rounded up" * self.ceil


@dataclass(frozen=True)
class Activation:
    """An activation by its name, in small letters: "relu6", "leaky_relu(0.2)"."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ZeroPad:
    """Zeros around a map: (before, after) for each axis."""

    sides: Sides


@dataclass(frozen=True)
class Named:
    """Another function that both sides can name alike, with its numbers: "resize bilinear", "times 2.5"."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Affine:
    """x · factor + summand, with numbers that are the same everywhere on a map. Equal to six digits is equal."""

    factor: float = 1.0
    summand: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", float(f"{self.factor:.6g}"))
        object.__setattr__(self, "summand", float(f"{self.summand:.6g}"))

    def __str__(self) -> str:
        words = [f"times {self.factor:g}"] * (self.factor != 1) + [f"plus {self.summand:g}"] * (self.summand != 0)
        return " ".join(words) or "times 1"

    def after(self, first: "Affine") -> "Affine":
        """Both in one, where `first` is done before.

        >>> Affine(2.0).after(Affine(0.5, 1.0))
        Affine(factor=1.0, summand=2.0)
        """
        return Affine(self.factor * first.factor, self.factor * first.summand + self.summand)


@dataclass(frozen=True)
class Unknown:
    """A function that is not compared with another."""

    name: str = ""

    def __str__(self) -> str:
        return self.name or "an operation"


@dataclass(frozen=True)
class Absent:
    """No step of this kind."""

    kind: StepKind

    def __str__(self) -> str:
        return f"no {_WORDS[self.kind]}"


Function = Pool | Activation | Affine | Named | ZeroPad | Unknown


@dataclass(frozen=True)
class ModuleStep:
    """Where a model does a step: a module without arrays."""

    layer: str
    kind: StepKind

    @property
    def attribute(self) -> str:
        """The last part of the name that `accept` and `adopt` match: "pool" or "activation"."""
        return self.kind


@dataclass(frozen=True)
class CallStep:
    """Where a model does a step: a call in a forward.

    layer    the module whose forward it is
    call     the name of the call: "avg_pool2d_1" is the second of its function
    operand  the input of the call before which a step belongs; None for the call itself
    """

    layer: str
    call: str
    operand: int | None = None

    @property
    def attribute(self) -> str:
        """The last part of the name that `accept` and `adopt` match: "avg_pool2d_1", or "add.1" for an operand."""
        return self.call if self.operand is None else f"{self.call}.{self.operand}"


@dataclass(frozen=True)
class Step:
    """One function without arrays, and where a model of ours does it."""

    function: Function | Absent
    where: ModuleStep | CallStep | None = field(default=None, compare=False)


UNKNOWN = Step(Unknown())


def _crossed(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _sides_text(padding: str | Sides) -> str:
    if isinstance(padding, str):
        return padding
    return "x".join(str(low) if low == high else f"{low}-{high}" for low, high in padding)


# --- their text in a saved plan ---------------------------------------------------------------------------------------

_POOL = re.compile(
    r"(?P<kind>max|average) (?P<size>[\dx]+), stride (?P<stride>[\dx]+)"
    r"(?:, padding (?P<padding>same|[-\dx]+)(?P<zeros> of zeros)?)?(?P<ceil>, rounded up)?"
)


def function_of_text(text: str) -> Pool | Activation | Absent | None:
    """The function that a saved plan names; None for another text.

    >>> function_of_text("max 3x3, stride 2x2, padding 0-1x0-1").padding, function_of_text("no pooling")
    (((0, 1), (0, 1)), Absent(kind='pool'))
    """
    for kind in _WORDS:
        if text == str(Absent(kind)):
            return Absent(kind)
    match = _POOL.fullmatch(text)
    if match is None:
        word = activation(text)
        return word if isinstance(word, Activation) else None
    size, stride = (tuple(map(int, match[key].split("x"))) for key in ("size", "stride"))
    padding: str | Sides = "same" if match["padding"] == "same" else _sides_of_text(match["padding"] or "")
    return Pool(match["kind"], size, stride, padding, bool(match["zeros"]), bool(match["ceil"]))


def _sides_of_text(text: str) -> Sides:
    ends = [side.split("-") for side in text.split("x") if side]
    return tuple((int(end[0]), int(end[-1])) for end in ends)


# --- what a file records ----------------------------------------------------------------------------------------------

# Operations of the source frameworks that change no value, or only its position.
_INERT = re.compile(
    r"InputLayer|.*Dropout.*|Flatten|Reshape|Permute|Identity|Linear|Cast|Squeeze|Unsqueeze|Transpose|Split|Slice|"
    r"ActivityRegularization|GaussianNoise|Global(?:Average|Avg|average)\w*|ReduceMean|Masking|QuantizeLinear|DequantizeLinear|Concat|"
    r"Concatenate|Input|Data|DepthToSpace|SpaceToDepth|Expand|Tile|RepeatVector|Gather|GatherV2|StridedSlice|"
    r"Cropping.*|ExpandDims|GetItem|Swapaxes|Moveaxis|SlicingOpLambda|Repeat|Take|SplitV|StopGradient|Mean|Placeholder.*|Unstack|Pack|Unpack|SpaceToBatchND|BatchToSpaceND"
)
_OTHER_NAMES = {
    "swish": "silu", "leakyrelu": "leaky_relu", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish", "re_lu": "relu", "log_softmax": "log_softmax", "logsoftmax": "log_softmax",
}  # fmt: skip
_KNOWN = re.compile(
    r"relu|relu6|silu|gelu|gelu_tanh|hard_swish|hard_sigmoid|sigmoid|tanh|elu|selu|softplus|softmax|mish|quick_gelu|"
    r"softsign|log_softmax|(?:leaky_relu|elu|celu)\([\d.]+\)|clip\([-\d.]+, [-\d.]+\)"
)


def activation(word: str, unknown: type[Named] | type[Unknown] = Unknown) -> Activation | Named | Unknown | None:
    """The activation that a framework calls so; None for one that changes nothing.

    unknown   what a word is that names no known activation

    >>> activation("Swish"), activation("linear"), activation("my_own")
    (Activation(name='silu'), None, Unknown(name='my_own'))
    """
    stem, bracket, number = word.lower().partition("(")
    name = _OTHER_NAMES.get(stem, stem) + bracket + number
    if name in ("linear", "identity", ""):
        return None
    return Activation(name) if _KNOWN.fullmatch(name) else unknown(word)


def steps_of_facts(operation: str, facts: Mapping[str, object]) -> tuple[Step, ...]:
    """What a layer of theirs does beside its arrays, the last step first.

    operation   the source framework's name for it
    """
    function: Function | None
    if "pool" in facts:
        function = _pool_of_facts(facts)
    elif isinstance(facts.get("pad"), list):
        function = ZeroPad(_sides(facts["pad"]))
    elif "activation" in facts:
        function = activation(str(facts["activation"]))
    elif "function" in facts:
        return (Step(_function_of_fact(facts["function"])),)
    else:
        function = None if not operation or _INERT.fullmatch(operation) else Unknown(operation)
    return () if function is None else (Step(function),)


def _function_of_fact(value: object) -> Function:
    """[factor, summand], or the name of a function."""
    if isinstance(value, list):
        return Affine(*map(float, value))
    return activation(str(value), unknown=Named) or Affine()


def _pool_of_facts(facts: Mapping[str, Any]) -> Pool | Unknown:
    padding = facts.get("padding", "valid")
    if padding not in ("valid", "same") and not isinstance(padding, list):
        return Unknown(str(facts["pool"]))
    sides = _sides(padding) if isinstance(padding, list) else "same" if padding == "same" else ()
    counts, rounds_up = bool(facts.get("count_include_pad")), bool(facts.get("ceil_mode"))
    return Pool(str(facts["pool"]), tuple(facts["pool_size"]), tuple(facts["strides"]), sides, counts, rounds_up)


def _sides(pairs: Any) -> Sides:
    return tuple((int(low), int(high)) for low, high in pairs)


def simplified(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, the last first, where products and sums with numbers in a row are one, or none if they change nothing.

    >>> simplified([Step(Affine(2.0)), Step(Affine(0.5))])
    ()
    """
    kept: list[Step] = []
    for step in steps:
        later = kept[-1].function if kept else None
        if isinstance(later, Affine) and isinstance(step.function, Affine):
            kept[-1] = replace(kept[-1], function=later.after(step.function))
        else:
            kept.append(step)
    return _with_hard_sigmoids([step for step in kept if step.function != Affine()])


# relu6(x + 3) / 6, as MobileNetV3's authors write it.
_HARD_SIGMOID = (Affine(1 / 6), Activation("relu6"), Affine(1.0, 3.0))


def _with_hard_sigmoids(steps: Sequence[Step]) -> tuple[Step, ...]:
    for start in range(len(steps) - 2):
        if tuple(step.function for step in steps[start : start + 3]) == _HARD_SIGMOID:
            made = replace(steps[start], function=Activation("hard_sigmoid"))
            return _with_hard_sigmoids((*steps[:start], made, *steps[start + 3 :]))
    return tuple(steps)


def merged(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, the last first, with zeros that are added before a pooling as that pooling's own padding."""
    kept: list[Step] = []
    for step, below in zip_longest(steps, steps[1:], fillvalue=UNKNOWN):
        pool = kept[-1].function if kept else None
        if isinstance(step.function, ZeroPad) and isinstance(pool, Pool) and not pool.padding:
            kept[-1] = replace(kept[-1], function=_padded(pool, step.function, below.function))
        else:
            kept.append(step)
    return tuple(kept)


def _padded(pool: Pool, pad: ZeroPad, below: Function | Absent) -> Pool:
    """The pooling with the zeros that were added before it, behind the step `below`."""
    is_harmless = isinstance(below, Activation) and below.name in NONNEGATIVE
    return replace(pool, padding=pad.sides, zeros=pool.kind != "max" or not is_harmless)
