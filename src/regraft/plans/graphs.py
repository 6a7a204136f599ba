"""Two networks as graphs of layers, and which layer of one is which of the other: by neighbours, not by shape alone.

A layer's input is an expression: the name of a layer, "" for the network's input, ("add" | "mul" | "cat" | other
word, expression …), or (Step, expression) for what a layer without arrays does. Pairing looks through steps (`bare`);
what they do is compared afterwards.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any

from regraft.plans.gates import gate
from regraft.plans.steps import UNKNOWN, Step

Expression = str | tuple[Any, ...]
_JOINS = frozenset({"add", "mul", "cat"})
_UNORDERED = frozenset({"add", "mul"})
_MOST_ROUNDS = 64  # of refinement; stable far earlier in every network seen


@dataclass(frozen=True)
class LayerNode:
    """One layer: what it is (kind and shape, in torch's terms), and what feeds it."""

    signature: Hashable
    inputs: Expression


Graph = Mapping[str, LayerNode]


@dataclass(frozen=True)
class Matches:
    """Our layer → theirs; and our layer → those of theirs that fit equally well."""

    pairs: Mapping[str, str]
    ambiguous: Mapping[str, tuple[str, ...]]


def combined(word: str, parts: Sequence[Expression]) -> Expression:
    """The expression of an operation on its inputs; of equal inputs one is enough, a single one is looked through.

    >>> combined("cat", ["a", "b"]), combined("max", ["a", "a"]), combined("relu", ["a"])
    (('cat', 'a', 'b'), 'a', 'a')
    """
    if len(parts) < 2:
        return parts[0] if parts else ""
    if word != "cat" and len({bare(part) for part in parts}) == 1:
        is_kept = word not in ("add", "mul") and len(set(parts)) == 1
        return parts[0] if is_kept else _gated(word, parts)
    return (word, *parts)


def stepped(steps: Sequence[Step], inner: Expression) -> Expression:
    """The expression behind these steps, the last first."""
    for step in reversed(steps):
        inner = (step, inner)
    return inner


def bare(expression: Expression) -> Expression:
    """The expression without its steps; sums of sums and concatenations of concatenations are one.

    All other operations on several values are a "mix": frameworks cut attention into other pieces.

    >>> relu = Step(Activation("relu"))
    >>> bare((relu, ("add", (relu, ("add", "a", "b")), "c")))
    ('add', 'a', 'b', 'c')
    """
    if isinstance(expression, str):
        return expression
    if isinstance(expression[0], Step):
        return bare(expression[1])
    word = expression[0] if expression[0] in _JOINS else "mix"
    flat = tuple(chain.from_iterable(_flattened(bare(part), word) for part in expression[1:]))
    return flat[0] if word != "cat" and len(set(flat)) == 1 else (word, *flat)


# Other operations on two maps, in one word for all their spellings.
_WORDS = {
    "sub": "sub", "subtract": "sub", "div": "div", "truediv": "div", "divide": "div", "maximum": "max", "max": "max",
    "minimum": "min", "min": "min", "average": "average", "mean": "average",
}  # fmt: skip


def joined(expression: Expression) -> Expression | None:
    """The expression without its steps, where every operation in it is one of a few that are the same everywhere.

    >>> joined(("add", "a", ("add", "b", "c"))), joined(("Subtract", "a", "b")), joined(("matmul", "a", "b"))
    (('add', 'a', 'b', 'c'), ('sub', 'a', 'b'), None)
    """
    _, inner = unstepped(expression)
    if isinstance(inner, str):
        return inner
    word = inner[0] if inner[0] in _JOINS else join_word(str(inner[0]))
    parts = [joined(part) for part in inner[1:]]
    if word is None or None in parts:
        return None
    flat = tuple(chain.from_iterable(_flattened(part, word) for part in parts if part is not None))
    return flat[0] if word in ("add", "mul") and len(set(flat)) == 1 else (word, *flat)


def join_word(operation: str) -> str | None:
    """One word for the spellings of an operation on two maps that is no sum, product or concatenation.

    >>> join_word("Subtract"), join_word("truediv"), join_word("MatMul")
    ('sub', 'div', None)
    """
    return _WORDS.get(operation.lower())


def is_join(expression: Expression) -> bool:
    """Whether it is a sum, a product or a concatenation."""
    return isinstance(expression, tuple) and expression[0] in _JOINS


def _flattened(part: Expression, word: str) -> Sequence[Expression]:
    """The parts of a sum inside a sum, of a concatenation inside another; else the part itself."""
    is_inside = word != "mul" and isinstance(part, tuple) and part[0] == word
    return part[1:] if is_inside else (part,)


def unstepped(expression: Expression) -> tuple[tuple[Step, ...], Expression]:
    """(the steps in front, the last first; what they are done to)."""
    steps = []
    while isinstance(expression, tuple) and isinstance(expression[0], Step):
        steps.append(expression[0])
        expression = expression[1]
    return tuple(steps), expression


def _gated(word: str, parts: Sequence[Expression]) -> Expression:
    """A sum or product of one value, taken several ways: a known activation, or a step that is not compared."""
    paths = _paths(parts)
    if paths is None:
        return (UNKNOWN, bare(parts[0]))
    common, inner, own = paths
    functions = gate(word, own)
    if functions is None:
        return (UNKNOWN, bare(parts[0]))
    return stepped((*map(Step, functions), *common), inner)


def _paths(parts: Sequence[Expression]) -> tuple[tuple[Step, ...], Expression, list[tuple[Step, ...]]] | None:
    """(the steps that all ways have first, the value before them, each way's own steps); None for several values."""
    steps, inners = zip(*map(unstepped, parts), strict=True)
    if len(set(inners)) > 1:
        return None
    backwards = [list(reversed(path)) for path in steps]
    same = len(list(takewhile(lambda several: len(set(several)) == 1, zip(*backwards, strict=False))))
    return steps[0][len(steps[0]) - same :], inners[0], [path[: len(path) - same] for path in steps]


def match_graphs(ours: Graph, theirs: Graph) -> Matches:
    """Pair the layers whose whole ancestry is alike, and which nothing in their surroundings lets be confused.

    Two layers are one when everything before them is alike in kind, shape and wiring, and they are the only two with
    these neighbours, looked at as far around as it takes; at last each pair's inputs are compared pair by pair. Layers
    with equal surroundings stay ambiguous: order and names do not decide here.
    Source: colour refinement (Weisfeiler, Leman, 1968), of both graphs at once; we differ: ancestry comes first.
    """
    colours = _Colours(ours, theirs)
    ancestry = colours.ancestry()
    rounds = colours.refined()
    pairs: dict[str, str] = {}
    for colour in reversed(rounds):
        pairs.update(_single_pairs(ours, theirs, ancestry, colour, pairs))
    kept = {name: other for name, other in pairs.items() if same_inputs(ours[name].inputs, theirs[other].inputs, pairs)}
    return Matches(kept, _ambiguous(ours, theirs, ancestry, kept))


def _single_pairs(
    ours: Graph,
    theirs: Graph,
    ancestry: Mapping[tuple[int, str], int],
    colour: Mapping[tuple[int, str], int],
    pairs: Mapping[str, str],
) -> dict[str, str]:
    """The pairs that are alone in their class on both sides, among the layers without a pair."""
    taken = set(pairs.values())
    classes: dict[tuple[int, int], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, graph, paired in ((0, ours, pairs.keys()), (1, theirs, taken)):
        for name in graph:
            if name not in paired:
                key = (side, name)
                classes[ancestry[key], colour[key]][side].append(name)
    return {mine[0]: other[0] for mine, other in classes.values() if len(mine) == len(other) == 1}


def _ambiguous(
    ours: Graph, theirs: Graph, ancestry: Mapping[tuple[int, str], int], pairs: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    taken = set(pairs.values())
    free: dict[int, list[str]] = defaultdict(list)
    for name in theirs:
        if name not in taken:
            free[ancestry[1, name]].append(name)
    return {name: tuple(free[ancestry[0, name]]) for name in ours if name not in pairs and ancestry[0, name] in free}


def same_inputs(mine: Expression, other: Expression, pairs: Mapping[str, str]) -> bool:
    """Whether two bare inputs are one under the pairs; the order of sums and products does not count."""
    if isinstance(mine, str) or isinstance(other, str):
        return isinstance(mine, str) and pairs.get(mine, mine) == other
    if mine[0] != other[0] or len(mine) != len(other):
        return False
    if mine[0] in _UNORDERED:
        return _same_in_any_order(mine[1:], other[1:], pairs)
    return all(same_inputs(ours, theirs, pairs) for ours, theirs in zip(mine[1:], other[1:], strict=True))


def _same_in_any_order(mine: Sequence[Expression], other: Sequence[Expression], pairs: Mapping[str, str]) -> bool:
    left = list(other)
    for part in mine:
        index = next((index for index, candidate in enumerate(left) if same_inputs(part, candidate, pairs)), None)
        if index is None:
            return False
        del left[index]
    return True


class _Colours:
    """Small numbers for equal things of both graphs."""

    def __init__(self, ours: Graph, theirs: Graph) -> None:
        self.nodes = {(0, name): node for name, node in ours.items()} | {(1, n): node for n, node in theirs.items()}
        self.numbers: dict[Hashable, int] = {}
        self.fed: dict[tuple[int, str], list[tuple[tuple[int, str], Hashable]]] = defaultdict(list)
        for (side, name), node in self.nodes.items():
            for source, role in _roles(node.inputs, ()):
                self.fed[side, source].append(((side, name), role))

    def number(self, thing: Hashable) -> int:
        return self.numbers.setdefault(thing, len(self.numbers))

    def ancestry(self) -> dict[tuple[int, str], int]:
        """Equal where everything before a layer is equal: a fixed point, reached along the longest path."""
        now = {key: self.number(node.signature) for key, node in self.nodes.items()}
        for _ in range(len(self.nodes) + 1):
            after = {
                key: self.number(("after", self.number(node.signature), self._shape(key[0], node.inputs, now)))
                for key, node in self.nodes.items()
            }
            if _same_partition(now, after):
                return after
            now = after
        return now

    def refined(self) -> list[dict[tuple[int, str], int]]:
        """Round by round: equal where everything within that many steps, before and behind, is equal."""
        rounds = [{key: self.number(node.signature) for key, node in self.nodes.items()}]
        for _ in range(_MOST_ROUNDS):
            now = rounds[-1]
            after = {
                key: self.number((now[key], self._shape(key[0], node.inputs, now), self._consumers(key, now)))
                for key, node in self.nodes.items()
            }
            if _same_partition(now, after):
                break
            rounds.append(after)
        return rounds

    def _shape(self, side: int, expression: Expression, now: Mapping[tuple[int, str], int]) -> Hashable:
        """The expression with numbers for names."""
        if isinstance(expression, str):
            return now.get((side, expression), -1)
        parts = [self._shape(side, part, now) for part in expression[1:]]
        return (expression[0], *(sorted(parts, key=repr) if expression[0] in _UNORDERED else parts))

    def _consumers(self, key: tuple[int, str], now: Mapping[tuple[int, str], int]) -> Hashable:
        counts = Counter((now[consumer], role) for consumer, role in self.fed[key])
        return tuple(sorted(counts.items(), key=repr))


def _same_partition(now: Mapping[Any, int], after: Mapping[Any, int]) -> bool:
    """Whether the second colouring distinguishes no more layers than the first."""
    return len(set(after.values())) == len(set(now.values())) == len({(now[key], after[key]) for key in now})


def _roles(expression: Expression, path: tuple[Hashable, ...]) -> Iterator[tuple[str, Hashable]]:
    """(name, where it stands in the expression) for each name."""
    if isinstance(expression, str):
        yield expression, path
        return
    for index, part in enumerate(expression[1:]):
        role = expression[0] if expression[0] in _UNORDERED else (expression[0], index)
        yield from _roles(part, (*path, role))
