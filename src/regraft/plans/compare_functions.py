"""The steps between paired layers, compared: another pooling or activation is a row of the plan."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby, takewhile, zip_longest

from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.plans.graphs import Expression, bare, is_join, joined, same_inputs, stepped, unstepped
from regraft.plans.module_graph import Traced
from regraft.plans.rows import RequirementRow, Setting
from regraft.plans.steps import (
    Absent,
    Activation,
    Affine,
    CallStep,
    Function,
    ModuleStep,
    Named,
    Pool,
    Step,
    StepKind,
    Unknown,
    ZeroPad,
    merged,
    simplified,
)

_KINDS: Mapping[StepKind, tuple[type, ...]] = {"pool": (Pool,), "activation": (Activation,), "step": (Affine, Named)}
Resolved = Mapping[str, Expression]  # layer → what feeds it, in layers that were paired and steps
Place = ModuleStep | CallStep
_NOTHING: Expression = ("nothing known",)
Carried = tuple[Sequence[Step], Sequence[Step]]  # the steps of both sides behind a concatenation, seen from before it


@dataclass(frozen=True)
class FunctionComparison:
    """Both networks, seen from the pairs of their layers.

    ours, theirs  layer → what feeds it; "" is a network's output
    pairs         our layer → theirs
    folded        their layers without a layer of ours whose arrays fill others, as those of a norm that is folded
    traced        where ours does what
    can_change    whether `apply_plan` can make a place of the model do a step
    """

    ours: Resolved
    theirs: Resolved
    pairs: Mapping[str, str]
    folded: Set[str]
    traced: Traced
    can_change: Callable[[Place, Function | Absent], bool]

    def rows(self) -> tuple[RequirementRow, ...]:
        """One row for each place of the model that does something else than the source network there."""
        rows: dict[str, RequirementRow] = {}
        for layer, source in self.pairs.items():
            mine, other = self.ours.get(layer, _NOTHING), self.theirs.get(source, _NOTHING)
            call = self.traced.calls.get(layer)
            where = None if call is None else replace(call, operand=0)
            compared = self._compared(mine, other, where, source) if self._is_same(mine, other) else ()
            for row in (*compared, *self._fed_otherwise(layer, mine, other, source)):
                rows[row.name] = _both(rows.get(row.name, row), row)
        return (*rows.values(), *self._output_row())

    def _is_same(self, mine: Expression, other: Expression) -> bool:
        """Whether both are known, and the same layers feed them."""
        return _NOTHING not in (mine, other) and same_inputs(bare(mine), bare(other), self.pairs)

    def _fed_otherwise(self, layer: str, mine: Expression, other: Expression, source: str) -> Iterator[RequirementRow]:
        """A row for a layer that other layers feed, or the same ones joined otherwise, where both sides are known."""
        ours, theirs = joined(mine), joined(other)
        if _NOTHING in (mine, other) or ours is None or theirs is None:
            return
        named = _renamed(ours, self.pairs)
        # A norm that the file has folded comes from the layer that feeds it; a separable layer is two of ours.
        is_one = source in _leaves(named) or any(leaf.startswith(f"{source} (") for leaf in _leaves(theirs))
        is_known = _leaves(ours) <= {"", *self.pairs} and not _leaves(theirs) & self.folded
        if is_known and not is_one and not same_inputs(named, theirs, {}):
            row = RequirementRow(Setting(layer, "inputs"), _join_text(theirs), _join_text(named), "differs", source)
            note = "Names and shapes fit, but the network of the file connects its layers otherwise."
            yield replace(self._with_advice(row), note=note)

    def _compared(
        self,
        mine: Expression,
        other: Expression,
        where: Place | None,
        source: str,
        carried: Carried = ((), ()),
        *,
        is_mixed: bool = False,
    ) -> Iterator[RequirementRow]:
        """The rows of everything between a layer and those that feed it; a step is added at `where`.

        is_mixed   inside an operation that the two may cut into other pieces, as attention: numbers are not compared
        """
        (my_steps, my_inner), (their_steps, their_inner) = unstepped(mine), unstepped(other)
        steps: Carried = ((*carried[0], *my_steps), (*carried[1], *their_steps))
        is_leaf = isinstance(my_inner, str) or isinstance(their_inner, str)
        is_alike = not is_leaf and my_inner[0] == "cat" and all(map(_is_activation, (*steps[0], *steps[1])))
        if not is_alike:  # an activation is the same before a concatenation as behind it
            rows = self._steps(*steps, where, source, is_mixed=is_mixed)
            is_input = my_inner == their_inner == ""
            yield from map(_at_input, rows) if is_input else rows
            steps = ((), ())
        if not isinstance(my_inner, str) and not isinstance(their_inner, str):
            yield from self._parts(my_inner, their_inner, source, steps, is_mixed=is_mixed or not is_join(my_inner))

    def _parts(
        self,
        mine: tuple[Expression, ...],
        other: tuple[Expression, ...],
        source: str,
        carried: Carried,
        *,
        is_mixed: bool,
    ) -> Iterator[RequirementRow]:
        """The rows of what lies before each part of a sum, product or concatenation."""
        twins = self._twins(mine, other)
        join = self.traced.joins.get(mine)
        if twins is None:  # (a + b) + c is a + (b + c), where nothing lies between the two sums
            join = None
            mine, other = _flat(mine, str(mine[0])), _flat(other, str(mine[0]))
            twins = self._twins(mine, other) or []
        for index, (part, twin) in enumerate(zip(mine[1:], twins, strict=False)):
            inside = None if join is None else replace(join, operand=index)
            yield from self._compared(part, twin, inside, source, carried, is_mixed=is_mixed)

    def _twins(self, mine: tuple[Expression, ...], other: tuple[Expression, ...]) -> list[Expression] | None:
        """Their parts in the order of ours; None when they are put together in another order."""
        rest, twins = list(other[1:]), []
        for part in mine[1:]:
            twin = next((candidate for candidate in rest if self._is_same(part, candidate)), None)
            if twin is None:
                return None
            rest.remove(twin)
            twins.append(twin)
        return twins

    def _steps(
        self, mine: Sequence[Step], theirs: Sequence[Step], where: Place | None, source: str, *, is_mixed: bool
    ) -> Iterator[RequirementRow]:
        """The rows of one path between two layers. What neither side can name is not compared."""
        mine, theirs = simplified(mine), simplified(theirs)
        is_open = _have(Unknown, (*mine, *theirs))
        # A padding of the model's own stays where it is, whatever is done to the pooling behind it.
        pads_itself = _have(ZeroPad, mine)
        for kind in _KINDS:
            ours, others = _without_common_end(_of_kind(merged(mine), kind), _of_kind(merged(theirs), kind))
            is_compared = not is_open or (kind != "activation" and len(ours) == len(others))
            if is_compared and not (is_mixed and kind == "step"):
                can_change = not pads_itself and (len(ours) == len(others) or len(ours) + len(others) == 1)
                yield from self._rows_of_kind(kind, ours, others, where, source, can_change=can_change)
        if is_open and not is_mixed:
            yield from self._unnamed(mine, theirs, where, source)

    def _unnamed(
        self, mine: Sequence[Step], theirs: Sequence[Step], where: Place | None, source: str
    ) -> Iterator[RequirementRow]:
        """A row where one side alone does something that has no name here: then the two are not proven alike."""
        if _have(Unknown, mine) == _have(Unknown, theirs):
            return
        ours, others = _without_common_end(_uncompared(mine, theirs), _uncompared(theirs, mine))
        subject = next((step.where for step in ours if step.where is not None), where) or ModuleStep("", "step")
        row = RequirementRow(subject, _steps_text(others), _steps_text(ours), "differs", source)
        note = "One of the two is an operation that is not compared: see that the model computes what the file does."
        yield replace(self._with_advice(row), note=note)

    def _rows_of_kind(
        self,
        kind: StepKind,
        ours: Sequence[Step],
        others: Sequence[Step],
        where: Place | None,
        source: str,
        *,
        can_change: bool,
    ) -> Iterator[RequirementRow]:
        for step, other in zip_longest(ours, others, fillvalue=Step(Absent(kind), where)):
            if step.function != other.function:
                yield self._row(step, other.function, source, kind, can_change=can_change)

    def _row(
        self, step: Step, required: Function | Absent, source: str, kind: StepKind, *, can_change: bool
    ) -> RequirementRow:
        is_adoptable = can_change and step.where is not None and self._can_do(step.where, required)
        row = RequirementRow(step.where or ModuleStep("", kind), required, step.function, "differs", source)
        return self._with_advice(replace(row, adoptable=is_adoptable))

    def _can_do(self, where: Place, function: Function | Absent) -> bool:
        """Whether `apply_plan` can do it there: a pooling only where there is a map, not behind a flatten or a mean."""
        is_new_pool = isinstance(function, Pool) and isinstance(where, CallStep) and where.operand is not None
        return (not is_new_pool or where in self.traced.maps) and self.can_change(where, function)

    def _with_advice(self, row: RequirementRow) -> RequirementRow:
        patterns = [exact_pattern(row.name)]
        advice = [Advice("accept", patterns, "keep what the model does")]
        if row.adoptable:
            advice.insert(0, Advice("adopt", patterns, "let apply_plan change the model"))
        note = "" if row.adoptable else "Change it in the model's forward."
        return replace(row, note=note, advice=tuple(advice))

    def _output_row(self) -> Iterator[RequirementRow]:
        """An activation behind the last layer: the user's own choice, shown."""
        mine, other = self.ours.get("", _NOTHING), self.theirs.get("", _NOTHING)
        if not self._is_same(mine, other):
            return
        current, required = (_output_text(unstepped(side)[0]) for side in (mine, other))
        if current != required:
            note = f"the source's output has {required}, the model's has {current}"
            yield RequirementRow(Setting("", "output"), required, current, "accepted", "", note)


def _have(function: type, steps: Sequence[Step]) -> bool:
    return any(isinstance(step.function, function) for step in steps)


def _is_activation(step: Step) -> bool:
    return isinstance(step.function, Activation)


def _output_text(steps: Sequence[Step]) -> str:
    shown = [step for step in simplified(steps) if isinstance(step.function, Activation | Affine | Named)]
    return " of ".join(dict.fromkeys(str(step.function) for step in shown)) or "no activation"


def _steps_text(steps: Sequence[Step]) -> str:
    """The steps in the order in which they are done."""
    return ", ".join(dict.fromkeys(str(step.function) for step in reversed(steps))) or "nothing"


def _uncompared(steps: Sequence[Step], others: Sequence[Step]) -> list[Step]:
    """The steps without paddings, and without those of a kind that both sides have as often: these were compared."""
    return [step for step in steps if not isinstance(step.function, ZeroPad) and not _is_counted(step, steps, others)]


def _is_counted(step: Step, steps: Sequence[Step], others: Sequence[Step]) -> bool:
    kinds: list[StepKind] = [kind for kind in ("pool", "step") if isinstance(step.function, _KINDS[kind])]
    return any(len(_of_kind(steps, kind)) == len(_of_kind(others, kind)) for kind in kinds)


def _at_input(row: RequirementRow) -> RequirementRow:
    """What a network does to its own input is shown: whoever gives the input may have done it already."""
    if any(isinstance(side, Pool | Activation) or side == Named("flip") for side in (row.required, row.found)):
        return row
    note = f"the source's network does this to its input: {row.required}; the model: {row.found}"
    return replace(row, subject=Setting("", "input"), status="accepted", adoptable=False, note=note, advice=())


def _renamed(expression: Expression, names: Mapping[str, str]) -> Expression:
    if isinstance(expression, str):
        return names.get(expression, expression)
    return (expression[0], *(_renamed(part, names) for part in expression[1:]))


def _leaves(expression: Expression) -> set[str]:
    if isinstance(expression, str):
        return {expression}
    return set().union(*map(_leaves, expression[1:]))


_JOIN_WORDS = {"add": " + ", "mul": " · ", "sub": " - ", "div": " / ", "cat": ", "}


def _join_text(expression: Expression) -> str:
    """The layers that feed one, joined: "conv1 + (conv2 · conv3)"."""
    if isinstance(expression, str):
        return expression or "the input"
    word = _JOIN_WORDS.get(expression[0])
    parts = [_join_text(part) for part in expression[1:]]
    inner = [f"({part})" if isinstance(each, tuple) else part for part, each in zip(parts, expression[1:], strict=True)]
    return word.join(inner) if word else f"{expression[0]}({', '.join(parts)})"


def _flat(expression: tuple[Expression, ...], word: str) -> tuple[Expression, ...]:
    """A sum of sums as one sum, with the steps behind an inner one done to each of its parts."""
    parts: list[Expression] = []
    for part in expression[1:]:
        steps, inner = unstepped(part)
        is_inside = isinstance(inner, tuple) and inner[0] == word
        parts.extend(stepped(steps, term) for term in (_flat(inner, word)[1:] if is_inside else (inner,)))  # type: ignore[arg-type]
    return (word, *parts)


def _without_common_end(ours: Sequence[Step], others: Sequence[Step]) -> Carried:
    """Both without the steps that both begin with in time: the last in these lists."""
    backwards = zip(reversed(ours), reversed(others), strict=False)
    same = len(list(takewhile(lambda pair: pair[0].function == pair[1].function, backwards)))
    return ours[: len(ours) - same], others[: len(others) - same]


def _of_kind(steps: Sequence[Step], kind: StepKind) -> list[Step]:
    """The steps of one kind; an activation that was done twice in a row is done once."""
    chosen = [step for step in steps if isinstance(step.function, _KINDS[kind])]
    if kind == "pool":
        return chosen
    return [next(same) for _, same in groupby(chosen, key=lambda step: step.function)]


def _both(row: RequirementRow, other: RequirementRow) -> RequirementRow:
    """One row for a place of ours that stands for several of theirs: it can be changed only where they agree."""
    if row.required == other.required:
        return row
    note = "One module of the model stands for steps that differ in the source: use a module of its own for each."
    advice = tuple(advice for advice in row.advice if advice.argument == "accept")
    return replace(row, required=f"{row.required}; {other.required}", adoptable=False, note=note, advice=advice)
