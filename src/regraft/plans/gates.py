"""Activations that a graph writes as a product: x · sigmoid(x), x · (1 + erf(x / √2)) / 2 and the like."""

from collections.abc import Sequence
from math import isclose, pi, sqrt

from regraft.plans.steps import Absent, Activation, Affine, Function, Named, Step, simplified

# What x is multiplied by, the last step first → the product.
_GATES: tuple[tuple[tuple[Function, ...], tuple[Function, ...]], ...] = (
    ((Activation("sigmoid"),), (Activation("silu"),)),
    ((Activation("hard_sigmoid"),), (Activation("hard_swish"),)),
    ((Activation("relu6"), Affine(1.0, 3.0)), (Affine(6.0), Activation("hard_swish"))),
    ((Activation("sigmoid"), Affine(1.702)), (Activation("quick_gelu"),)),
    ((Activation("tanh"), Activation("softplus")), (Activation("mish"),)),
    ((Affine(1.0, 1.0), Named("erf"), Affine(sqrt(0.5))), (Affine(2.0), Activation("gelu"))),
    (
        (Affine(1.0, 1.0), Activation("tanh"), Affine(sqrt(2 / pi)), Named("cubic")),
        (Affine(2.0), Activation("gelu_tanh")),
    ),
)
_SQUARE, _CUBE = Named("power 2"), Named("power 3")


def gate(word: str, paths: Sequence[Sequence[Step]]) -> tuple[Function, ...] | None:
    """What two paths of steps from one value make, multiplied or added: the last first; None where it is not known.

    >>> [str(function) for function in gate("mul", [(), (Step(Activation("sigmoid")),)])]
    ['silu']
    """
    if len(paths) != 2:
        return None
    (factor, plain), (other, steps) = sorted(map(_taken, paths), key=lambda path: len(path[1]))
    if word == "add" and not plain and not steps:
        return (Affine(factor + other),)
    if not plain and _is_cubic(word, other if word == "mul" else other / factor, steps):
        return (Affine(factor), Named("cubic"))
    made = _product(plain, steps) if word == "mul" else None
    scale = Affine(factor * other)
    return made if made is None or scale == Affine() else (scale, *made)


def _is_cubic(word: str, number: float, steps: tuple[Function, ...]) -> bool:
    """Whether x + number · steps(x), or x times that, is x + 0.044715 x³."""
    if not isclose(number, 0.044715, rel_tol=1e-4):
        return False
    if word == "add":
        return steps == (_CUBE,)
    last = steps[0] if steps else None
    return isinstance(last, Affine) and isclose(number * last.summand, 1, rel_tol=1e-4) and steps[1:] == (_SQUARE,)


def _product(plain: tuple[Function, ...], steps: tuple[Function, ...]) -> tuple[Function, ...] | None:
    """plain(x) · steps(x)."""
    if plain:
        return None
    if steps in ((), (_SQUARE,)):
        return (_CUBE if steps else _SQUARE,)
    return next((made for path, made in _GATES if path == steps), None)


def _taken(path: Sequence[Step]) -> tuple[float, tuple[Function, ...]]:
    """(a number by which the path multiplies at its end, the functions before it)."""
    functions = tuple(step.function for step in simplified(path) if not isinstance(step.function, Absent))
    last = functions[0] if functions else None
    if isinstance(last, Affine) and last.factor:
        rest = (Affine(1.0, last.summand / last.factor),) * (last.summand != 0)
        return last.factor, (*rest, *functions[1:])
    return 1.0, functions
