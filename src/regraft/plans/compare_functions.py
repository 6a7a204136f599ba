"""The steps between paired layers, compared: another pooling or activation is a row of the plan."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile, zip_longest

from regraft.errors import Advice
from regraft.foundation.patterns import exact_pattern
from regraft.plans.graphs import Expression, bare, same_inputs, stepped, unstepped
from regraft.plans.module_graph import Traced
from regraft.plans.rows import RequirementRow, Setting
from regraft.plans.steps import (
    Absent,
    Activation,
    CallStep,
    Function,
    ModuleStep,
    Pool,
    Step,
    StepKind,
    Unknown,
    ZeroPad,
    merged,
)

_KINDS: Mapping[StepKind, type[Pool | Activation]] = {"pool": Pool, "activation": Activation}
Resolved = Mapping[str, Expression]  # layer → what feeds it, in layers that were paired and steps
Place = ModuleStep | CallStep
_NOTHING: Expression = ("nothing known",)
Carried = tuple[Sequence[Step], Sequence[Step]]  # the steps of both sides behind a concatenation, seen from before it


@dataclass(frozen=True)
class FunctionComparison:
    """Both networks, seen from the pairs of their layers.

    ours, theirs  layer → what feeds it; "" is a network's output
    pairs         our layer → theirs
    traced        where ours does what
    can_change    whether `apply_plan` can make a place of the model do a step
    """

    ours: Resolved
    theirs: Resolved
    pairs: Mapping[str, str]
    traced: Traced
    can_change: Callable[[Place, Function | Absent], bool]

    def rows(self) -> tuple[RequirementRow, ...]:
        """One row for each place of the model that does something else than the source network there."""
        rows: dict[str, RequirementRow] = {}
        for layer, source in self.pairs.items():
            mine, other = self.ours.get(layer, _NOTHING), self.theirs.get(source, _NOTHING)
            call = self.traced.calls.get(layer)
            where = None if call is None else replace(call, operand=0)
            for row in self._compared(mine, other, where, source) if self._is_same(mine, other) else ():
                rows[row.name] = _both(rows.get(row.name, row), row)
        return (*rows.values(), *self._output_row())

    def _is_same(self, mine: Expression, other: Expression) -> bool:
        """Whether both are known, and the same layers feed them."""
        return _NOTHING not in (mine, other) and same_inputs(bare(mine), bare(other), self.pairs)

    def _compared(
        self, mine: Expression, other: Expression, where: Place | None, source: str, carried: Carried = ((), ())
    ) -> Iterator[RequirementRow]:
        """The rows of everything between a layer and those that feed it; a step is added at `where`."""
        (my_steps, my_inner), (their_steps, their_inner) = unstepped(mine), unstepped(other)
        steps: Carried = ((*carried[0], *my_steps), (*carried[1], *their_steps))
        is_leaf = isinstance(my_inner, str) or isinstance(their_inner, str)
        is_alike = not is_leaf and my_inner[0] == "cat" and all(map(_is_activation, (*steps[0], *steps[1])))
        if not is_alike:  # an activation is the same before a concatenation as behind it
            yield from self._steps(*steps, where, source)
            steps = ((), ())
        if not isinstance(my_inner, str) and not isinstance(their_inner, str):
            yield from self._parts(my_inner, their_inner, source, steps)

    def _parts(
        self, mine: tuple[Expression, ...], other: tuple[Expression, ...], source: str, carried: Carried
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
            yield from self._compared(part, twin, inside, source, carried)

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
        self, mine: Sequence[Step], theirs: Sequence[Step], where: Place | None, source: str
    ) -> Iterator[RequirementRow]:
        """The rows of one path between two layers. What is not known on a side is not compared there."""
        is_open = _have(Unknown, (*mine, *theirs))
        # A padding of the model's own stays where it is, whatever is done to the pooling behind it.
        pads_itself = _have(ZeroPad, mine)
        for kind in _KINDS:
            ours, others = _without_common_end(_of_kind(merged(mine), kind), _of_kind(merged(theirs), kind))
            if not is_open or (kind != "activation" and len(ours) == len(others)):
                can_change = not pads_itself and (len(ours) == len(others) or len(ours) + len(others) == 1)
                yield from self._rows_of_kind(kind, ours, others, where, source, can_change=can_change)

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
        current, required = (_activations_text(unstepped(side)[0]) for side in (mine, other))
        if current != required:
            note = f"the source's output has {required}, the model's has {current}"
            yield RequirementRow(Setting("", "output"), required, current, "accepted", "", note)


def _have(function: type, steps: Sequence[Step]) -> bool:
    return any(isinstance(step.function, function) for step in steps)


def _is_activation(step: Step) -> bool:
    return isinstance(step.function, Activation)


def _activations_text(steps: Sequence[Step]) -> str:
    return " of ".join(str(step.function) for step in _of_kind(steps, "activation")) or "no activation"


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
