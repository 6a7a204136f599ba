"""What lies between two layers and has no array: pooling and activations, in one wording for all frameworks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

What = Literal["pool", "pad", "activation", "unknown"]
Sides = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Step:
    """One function without arrays.

    text    its settings: "max 3x3, stride 2x2, padding same" or "relu6"
    where   in a model of ours: (module, "") or (the module whose forward does it, the call: "avg_pool2d_1")
    """

    what: What
    text: str = ""
    where: tuple[str, str] | None = field(default=None, compare=False)


UNKNOWN = Step("unknown")
# Activations whose results are never below 0: zeros around a map are then as good as nothing for a maximum.
NONNEGATIVE = frozenset({"relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus"})
_POOL = re.compile(
    r"(?P<kind>max|average) (?P<size>[\dx]+), stride (?P<stride>[\dx]+)"
    r"(?:, padding (?P<padding>same|[-\dx]+)(?P<zeros> of zeros)?)?(?P<ceil>, rounded up)?"
)


@dataclass(frozen=True)
class Pool:
    """A pooling.

    padding   "same" as TensorFlow pads, or (before, after) for each axis
    zeros     whether the padding counts as zeros; else it is never the largest, and not counted in an average
    ceil      whether the number of windows is rounded up
    """

    kind: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | Sides = ()
    zeros: bool = False
    ceil: bool = False

    def plain(self) -> "Pool":
        """The same function in one form: "same" as numbers where it does not depend on the map's size."""
        padding = self.padding or ((0, 0),) * len(self.size)
        if isinstance(padding, str) and all(
            step == 1 or width == 1 for step, width in zip(self.stride, self.size, strict=True)
        ):
            padding = tuple(((width - 1) // 2, width - 1 - (width - 1) // 2) for width in self.size)
        is_padded = isinstance(padding, str) or any(low or high for low, high in padding)
        return replace(self, padding=padding if is_padded else (), zeros=self.zeros and is_padded)

    def __str__(self) -> str:
        plain = self.plain()
        words = [f"{plain.kind} {_crossed(plain.size)}, stride {_crossed(plain.stride)}"]
        if plain.padding:
            words.append(f"padding {_told_sides(plain.padding)}{' of zeros' * plain.zeros}")
        return ", ".join(words) + ", rounded up" * plain.ceil


def _told_sides(padding: str | Sides) -> str:
    if isinstance(padding, str):
        return padding
    return "x".join(str(low) if low == high else f"{low}-{high}" for low, high in padding)


def pool_of(text: str) -> Pool | None:
    """The pooling that a text tells; None for another text.

    >>> str(pool_of("max 3x3, stride 2x2, padding 0-1x0-1"))
    'max 3x3, stride 2x2, padding 0-1x0-1'
    """
    match = _POOL.fullmatch(text)
    if match is None:
        return None
    size, stride = (tuple(map(int, match[key].split("x"))) for key in ("size", "stride"))
    ends = [side.split("-") for side in (match["padding"] or "").split("x")]
    same = match["padding"] == "same"
    padding: str | Sides = "same" if same else tuple((int(one[0]), int(one[-1])) for one in ends if one[0])
    return Pool(match["kind"], size, stride, padding, bool(match["zeros"]), bool(match["ceil"]))


def _crossed(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


# --- what a file tells ----------------------------------------------------------------------------------------------

# Operations of the source frameworks that change no value, or only where it stands.
_INERT = re.compile(
    r"InputLayer|.*Dropout.*|Flatten|Reshape|Permute|Identity|Linear|Cast|Squeeze|Unsqueeze|Transpose|Split|Slice|"
    r"ActivityRegularization|GaussianNoise|Global\w+|ReduceMean|Masking|QuantizeLinear|DequantizeLinear|Concat|Concatenate|Input|Data"
)
_ACTIVATIONS = {
    "swish": "silu", "leakyrelu": "leaky_relu", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish", "relu6": "relu6", "re_lu": "relu",
}  # fmt: skip
_KNOWN = frozenset(
    {
        "relu", "relu6", "silu", "gelu", "gelu_tanh", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "elu", "selu",
        "softplus", "softmax", "mish",
    }
)  # fmt: skip


def activation_step(word: str) -> Step | None:
    """The step of an activation's name; None for the linear one, UNKNOWN for one that is not compared.

    >>> activation_step("swish"), activation_step("linear"), activation_step("my_own").what
    (Step(what='activation', text='silu', where=None), None, 'unknown')
    """
    stem, bracket, number = word.lower().partition("(")
    name = _ACTIVATIONS.get(stem, stem) + bracket + number
    if name in ("linear", "identity", ""):
        return None
    is_known = name in _KNOWN or re.fullmatch(r"(leaky_relu|elu)\([\d.]+\)", name)
    return Step("activation", name) if is_known else UNKNOWN


def told_steps(operation: str, facts: Mapping[str, object]) -> tuple[Step, ...]:
    """What a layer of theirs does beside its arrays, the last first.

    operation   the source framework's word
    """
    if "pool" in facts:
        if facts.get("padding", "valid") not in ("valid", "same") and not isinstance(facts["padding"], list):
            return (UNKNOWN,)
        return (Step("pool", str(_told_pool(facts))),)
    if isinstance(facts.get("pad"), list):
        return (Step("pad", repr(_sides(facts["pad"]))),)
    if "activation" in facts:
        step = activation_step(str(facts["activation"]))
        return () if step is None else (step,)
    return () if not operation or _INERT.fullmatch(operation) else (UNKNOWN,)


def _told_pool(facts: Mapping[str, Any]) -> Pool:
    size, stride, padding = facts["pool_size"], facts["strides"], facts.get("padding", "valid")
    words: dict[str, str | Sides] = {"same": "same"}
    sides = words.get(padding, ()) if isinstance(padding, str) else _sides(padding)
    counts = bool(facts.get("count_include_pad", False))
    return Pool(str(facts["pool"]), tuple(size), tuple(stride), sides, counts, bool(facts.get("ceil_mode", False)))


def _sides(pairs: Any) -> Sides:
    return tuple((int(low), int(high)) for low, high in pairs)


def merged(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, the last first, with zeros added before a pooling told as that pooling's own padding."""
    found: list[Step] = []
    for index, step in enumerate(steps):
        if step.what == "pad" and found and found[-1].what == "pool":
            pool = pool_of(found[-1].text)
            below = steps[index + 1] if index + 1 < len(steps) else UNKNOWN
            if pool is not None and not pool.plain().padding:
                zeros = pool.kind != "max" or below.text not in NONNEGATIVE
                found[-1] = replace(found[-1], text=str(replace(pool, padding=_parsed(step.text), zeros=zeros)))
                continue
        found.append(step)
    return tuple(found)


def _parsed(text: str) -> Sides:
    numbers = [int(number) for number in re.findall(r"-?\d+", text)]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
