"""How operators are written for sizes: numbers of Python, and tuples of them, which no tensor is made for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from regraft.networks.axis_orders import Held
from regraft.networks.operators import Operator, OperatorCall, python

Write = Callable[[OperatorCall], str]
_MOST_POWER = 63  # exponents of a size


def _held(call: OperatorCall, index: int) -> Held:
    value = call.values[index]
    assert value is not None
    return value


def _is_many(call: OperatorCall, index: int) -> bool:
    """Whether an input is a tuple."""
    return isinstance(_held(call, index).plain, tuple)


def _operand(text: str) -> str:
    """An expression that may stand beside an operator."""
    is_simple = text.replace(".", "").replace("_", "").isalnum() or text[-1] in ")]"
    return text if is_simple and " " not in text else f"({text})"


def _elementwise(text: str) -> Write:
    """A function of one or two, for numbers, or for every number of tuples."""

    def write(call: OperatorCall) -> str:
        many = [index for index in range(len(call.texts)) if _is_many(call, index)]
        if not many:
            return text.format(*map(_operand, call.texts))
        names = [
            chr(ord("a") + index) if index in many else _operand(call.texts[index]) for index in range(len(call.texts))
        ]
        inner = text.format(*names)
        if len(many) == 1:
            return f"tuple({inner} for {names[many[0]]} in {call.texts[many[0]]})"
        pairs = ", ".join(call.texts[index] for index in many)
        return f"tuple({inner} for {', '.join(names[index] for index in many)} in zip({pairs}, strict=True))"

    return write


def _power(call: OperatorCall) -> str:
    """Powers of small exponents: others are no sizes, and would take for ever."""
    if any(not -_MOST_POWER <= number <= _MOST_POWER for number in _numbers(_held(call, 1).plain)):
        return ""
    return _elementwise("{0} ** {1}")(call)


def _divided(call: OperatorCall) -> str:
    """Cut towards 0; of sizes, which are not negative, that is Python's."""
    numbers = [value for index in (0, 1) for value in _numbers(_held(call, index).plain)]
    return _elementwise("{0} // {1}" if min(numbers, default=0) >= 0 else "int({0} / {1})")(call)


def _numbers(value: object) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _concat(call: OperatorCall) -> str:
    parts: list[str] = []
    for index, text in enumerate(call.texts):
        value = _held(call, index)
        if value.is_plain:
            parts += map(python, _numbers(value.plain))
        elif text.startswith("(") and text.endswith(",)") and text.count(",") == 1:
            parts.append(text[1:-2])
        else:
            parts.append(f"*{text}" if isinstance(value.plain, tuple) else text)
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"


def _unsqueeze(call: OperatorCall) -> str:
    return call.texts[0] if _is_many(call, 0) else f"({call.texts[0]},)"


def _first(call: OperatorCall) -> str:
    return f"{_operand(call.texts[0])}[0]" if _is_many(call, 0) else call.texts[0]


def _reshape(call: OperatorCall) -> str:
    shape = call.settings.get("shape")
    return _first(call) if shape == () else _unsqueeze(call)


def _gather(call: OperatorCall) -> str:
    """One size, or several."""
    x, index = _operand(call.texts[0]), _held(call, 1)
    if not isinstance(index.plain, tuple):
        return f"{x}[{call.texts[1]}]"
    if index.is_plain:
        return f"({', '.join(f'{x}[{number}]' for number in index.plain)},)"
    return f"tuple({x}[i] for i in {call.texts[1]})"


def _slice(call: OperatorCall) -> str:
    settings = call.settings
    start, end, step = settings["starts"][0], settings["ends"][0], (settings.get("steps") or (1,))[0]
    bounds = f"{start or ''}:{'' if end is None else end}{'' if step == 1 else f':{step}'}"
    return f"{_operand(call.texts[0])}[{bounds}]"


def _slice_between(call: OperatorCall) -> str:
    bounds = [f"{_operand(text)}[0]" if _is_many(call, index) else text for index, text in enumerate(call.texts)]
    return f"{_operand(call.texts[0])}[{bounds[1]}:{bounds[2]}]"


def _cast(call: OperatorCall) -> str:
    to = call.settings["dtype"]
    word = "float" if "float" in to else "bool" if to == "bool" else "int"
    kinds = {"float": float, "bool": bool, "int": int}
    if all(type(number) is kinds[word] for number in _numbers(_held(call, 0).plain)):
        return call.texts[0]
    return _elementwise(f"{word}({{0}})")(call)


def _reduce(text: str) -> Write:
    """A reduction of a tuple; with `keepdim` a tuple of one."""

    def write(call: OperatorCall) -> str:
        if not _is_many(call, 0):
            return call.texts[0]
        whole = text.format(call.texts[0])
        return f"({whole},)" if call.settings.get("keepdim") else whole

    return write


def _stack(call: OperatorCall) -> str:
    return "" if any(_is_many(call, index) for index in range(len(call.texts))) else _concat(call)


def _chunk(call: OperatorCall) -> str:
    """Equal parts of a tuple."""
    count, length = call.settings["count"], len(_numbers(_held(call, 0).plain))
    return "" if length % count else _parts(call, [length // count] * count)


def _split(call: OperatorCall) -> str:
    """Parts of a tuple."""
    return _parts(call, call.settings["sizes"])


def _parts(call: OperatorCall, sizes: Sequence[int]) -> str:
    start, parts = 0, []
    for size in sizes:
        parts.append(f"{_operand(call.texts[0])}[{start}:{start + size}]")
        start += size
    return f"({', '.join(parts)},)"


def _index(call: OperatorCall) -> str:
    return f"{_operand(call.texts[0])}[{call.settings['index']}]"


SIZES: Mapping[str, Write] = {
    "add": _elementwise("{0} + {1}"), "sub": _elementwise("{0} - {1}"), "mul": _elementwise("{0} * {1}"),
    "div": _elementwise("{0} / {1}"), "div_trunc": _divided, "floor_div": _elementwise("{0} // {1}"),
    "mod": _elementwise("{0} % {1}"), "pow": _power, "neg": _elementwise("-{0}"),
    "floor": _elementwise("{0} // 1"), "ceil": _elementwise("-(-{0} // 1)"), "sqrt": _elementwise("{0} ** 0.5"),
    "abs": _elementwise("abs({0})"), "reciprocal": _elementwise("1 / {0}"),
    "equal": _elementwise("{0} == {1}"), "not_equal": _elementwise("{0} != {1}"), "less": _elementwise("{0} < {1}"),
    "less_equal": _elementwise("{0} <= {1}"), "greater": _elementwise("{0} > {1}"),
    "greater_equal": _elementwise("{0} >= {1}"), "logical_and": _elementwise("{0} and {1}"),
    "logical_or": _elementwise("{0} or {1}"), "logical_not": _elementwise("not {0}"),
    "maximum": _elementwise("max({0}, {1})"), "minimum": _elementwise("min({0}, {1})"),
    "where": _elementwise("{1} if {0} else {2}"), "identity": lambda call: call.texts[0], "cast": _cast,
    "concat": _concat, "unsqueeze": _unsqueeze, "squeeze": _first, "reshape": _reshape, "gather": _gather,
    "slice": _slice, "slice_between": _slice_between,
    "stack": _stack, "unstack": lambda call: call.texts[0], "split": _split, "chunk": _chunk, "index": _index,
    "prod": _reduce("math.prod({0})"), "sum": _reduce("sum({0})"), "max": _reduce("max({0})"),
    "min": _reduce("min({0})"), "numel": lambda call: f"len({call.texts[0]})" if _is_many(call, 0) else "1",
    "shape": lambda call: f"(len({call.texts[0]}),)" if _is_many(call, 0) else "()",
}  # fmt: skip


def with_sizes(operators: Mapping[str, Operator]) -> Mapping[str, Operator]:
    """The operators, each with the way in which it is written for sizes."""
    return {name: replace(operator, sizes=SIZES.get(name, operator.sizes)) for name, operator in operators.items()}


# Operator → the first of its inputs that are sizes of Python, and stay so.
TAKE_SIZES: Mapping[str, int] = {
    "reshape": 1, "reshape_keeping": 1, "expand": 1, "tile": 1, "slice_between": 1, "slice_sizes": 1,
    "slice_masked": 1, "pad_sizes": 1, "resize_to": 1, "resize_to_map": 1, "fill": 0, "range": 0,
}  # fmt: skip
