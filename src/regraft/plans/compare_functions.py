"""What lies between the layers that were paired, compared: another pooling or activation is a row of the plan."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile, zip_longest

from regraft.plans.graphs import Expression, bare, same_inputs, stepped, unstepped
from regraft.plans.module_graph import Place, Traced
from regraft.plans.rows import RequirementRow
from regraft.plans.steps import Step, merged

_WORDS = {"pool": "pooling", "activation": "activation"}
Resolved = Mapping[str, Expression]  # layer → what feeds it, in layers that were paired and steps


@dataclass(frozen=True)
class Between:
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
    can_change: Callable[[Place, str], bool]

    def rows(self) -> tuple[RequirementRow, ...]:
        """One row for each place of the model that does something else than the source network there."""
        found: dict[str, RequirementRow] = {}
        for layer, source in self.pairs.items():
            mine, other = self.ours.get(layer), self.theirs.get(source)
            if mine is None or other is None or not same_inputs(bare(mine), bare(other), self.pairs):
                continue
            for row in self._compared(mine, other, self._input_of(layer), source):
                found[row.name] = _both(found[row.name], row) if row.name in found else row
        return (*found.values(), *self._at_output())

    def _input_of(self, layer: str) -> Place | None:
        call = self.traced.calls.get(layer)
        return None if call is None else (call[0], f"{call[1]}.0")

    def _compared(
        self,
        mine: Expression,
        other: Expression,
        place: Place | None,
        source: str,
        carried: tuple[Sequence[Step], Sequence[Step]] = ((), ()),
    ) -> Iterator[RequirementRow]:
        """The rows of everything between a layer and those that feed it; `place` is where a step can be put in."""
        (my_steps, my_inner), (their_steps, their_inner) = unstepped(mine), unstepped(other)
        mine_all, theirs_all = (*carried[0], *my_steps), (*carried[1], *their_steps)
        if isinstance(my_inner, str) or isinstance(their_inner, str):
            yield from self._steps(mine_all, theirs_all, place, source)
            return
        if my_inner[0] == "cat" and all(step.what == "activation" for step in (*mine_all, *theirs_all)):
            carried = (mine_all, theirs_all)  # the same before a concatenation as behind it
        else:
            yield from self._steps(mine_all, theirs_all, place, source)
            carried = ((), ())
        twins = self._twins(my_inner, their_inner)
        join = self.traced.joins.get(my_inner)
        if twins is None:  # (a + b) + c is a + (b + c), where nothing lies between the two sums
            join = None
            my_inner, their_inner = (_flat(one, my_inner[0]) for one in (my_inner, their_inner))
            twins = self._twins(my_inner, their_inner) or []
        for index, (part, twin) in enumerate(zip(my_inner[1:], twins, strict=False)):
            inside = None if join is None else (join[0], f"{join[1]}.{index}")
            yield from self._compared(part, twin, inside, source, carried)

    def _twins(self, mine: Expression, other: Expression) -> list[Expression] | None:
        """Their parts in the order of ours; None when they are put together in another order."""
        rest, found = list(other[1:]), []
        for part in mine[1:]:
            twin = next((one for one in rest if same_inputs(bare(part), bare(one), self.pairs)), None)
            if twin is None:
                return None
            rest.remove(twin)
            found.append(twin)
        return found

    def _steps(
        self, mine: Sequence[Step], theirs: Sequence[Step], place: Place | None, source: str
    ) -> Iterator[RequirementRow]:
        """The rows of one way between two layers. What is not known on a side is not compared there."""
        is_open = any(step.what == "unknown" for step in (*mine, *theirs))
        for what in ("pool", "activation"):
            ours, others = _without_common_end(*(_of_kind(side, what) for side in (mine, merged(theirs))))
            if is_open and (what == "activation" or len(ours) != len(others)):
                continue
            can_change = len(ours) == len(others) or len(ours) + len(others) == 1
            for step, other in zip_longest(ours, others):
                wanted = other.text if other is not None else f"no {_WORDS[what]}"
                if step is None or step.text != wanted:
                    yield self._row(what, step, wanted, place, source, can_change=can_change)

    def _row(
        self, what: str, step: Step | None, wanted: str, place: Place | None, source: str, *, can_change: bool
    ) -> RequirementRow:
        where = step.where if step is not None else place
        layer, call = where or ("", what)
        found = step.text if step is not None else f"no {_WORDS[what]}"
        row = RequirementRow(layer, call or what, wanted, found, "differs", source)
        is_adoptable = can_change and where is not None and self.can_change(where, wanted)
        return replace(row, adoptable=is_adoptable, note=_advice(row, is_adoptable))

    def _at_output(self) -> Iterator[RequirementRow]:
        """An activation behind the last layer: the user's own choice, told."""
        mine, other = self.ours.get(""), self.theirs.get("")
        if mine is None or other is None or not same_inputs(bare(mine), bare(other), self.pairs):
            return
        ours, others = (_of_kind(unstepped(side)[0], "activation") for side in (mine, other))
        texts = [" of ".join(step.text for step in side) or "no activation" for side in (ours, others)]
        if texts[0] != texts[1]:
            note = f"the source's outputs are behind {texts[1]}, the model's behind {texts[0]}"
            yield RequirementRow("", "output", texts[1], texts[0], "accepted", "", note)


def _flat(expression: Expression, word: str) -> Expression:
    """A sum of sums as one sum, with the steps behind an inner one done to each of its parts."""
    parts: list[Expression] = []
    for part in expression[1:]:
        steps, inner = unstepped(part)
        inside = _flat(inner, word)[1:] if isinstance(inner, tuple) and inner[0] == word else (inner,)
        parts.extend(stepped(steps, one) for one in inside)
    return (word, *parts)


def _without_common_end(ours: Sequence[Step], others: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """Both without the steps that both begin with in time: the last in these lists."""
    same = list(
        takewhile(lambda pair: pair[0].text == pair[1].text, zip(reversed(ours), reversed(others), strict=False))
    )
    return ours[: len(ours) - len(same)], others[: len(others) - len(same)]


def _of_kind(steps: Sequence[Step], what: str) -> list[Step]:
    """The steps of one kind; an activation that was done twice in a row is done once."""
    chosen = [step for step in steps if step.what == what]
    return [next(same) for _, same in groupby(chosen, key=lambda step: step.text)] if what == "activation" else chosen


def _both(one: RequirementRow, other: RequirementRow) -> RequirementRow:
    """One row for a place of ours that stands for several of theirs: it can be changed only where they agree."""
    if one.required == other.required:
        return one
    note = (
        "One module of the model does here what the source does in several ways: give each place a module of its own."
    )
    return replace(one, required=f"{one.required}; {other.required}", adoptable=False, note=note)


def _advice(row: RequirementRow, is_adoptable: bool) -> str:
    name = re.sub(r"([.\[\]])", r"\\\1", row.name)
    keep = f'accept="{name}" keeps what the model does'
    if is_adoptable:
        return f'adopt="{name}" lets apply_plan change it; {keep}.'
    return f"Write it so in the model's forward; {keep}."
