"""Which of their layers is which of ours where the connections are not known: by equal names, order, and words."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import TypeVar

from regraft.plans.graphs import Matches
from regraft.plans.renaming import dotted, unwrapped
from regraft.plans.signatures import kind_of_signature

_T = TypeVar("_T")
_Skeletons = Mapping[Hashable, Mapping[str, Sequence[str]]]


def match_orders(ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> Matches:
    """Pair layers of one kind and shape where nothing but a running number distinguishes them, on both sides.

    Layers that words distinguish (shortcut, query) are paired word by word, and only when the words are the same
    or the pattern in which they occur is unique. What then still fits several ways is ambiguous: order alone would
    take a block's shortcut for its last convolution.
    """
    pairs = same_names(ours, theirs)
    mine = _skeletons(_without(pairs, ours))
    others = _skeletons(_without(set(pairs.values()), theirs))
    numbered, ambiguous = _by_running_number(mine, others)
    pairs |= numbered
    settled = {**pairs, **_unique_in_one_order(ours, theirs, pairs)}
    while more := _between_pairs(ours, theirs, settled) or _last_of_their_kind(ours, theirs, settled):
        settled |= more
    taken = set(settled.values())
    left = {name: tuple(other for other in every if other not in taken) for name, every in ambiguous.items()}
    return Matches(settled, {name: every for name, every in _without(settled, left).items() if every})


def _without(names: Collection[str], layers: Mapping[str, _T]) -> dict[str, _T]:
    return {name: value for name, value in layers.items() if name not in names}


def same_place(ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> dict[str, str]:
    """Our layer → theirs at the same place, where both sides have the same kinds and shapes in one order; else none."""
    return dict(zip(ours, theirs, strict=True)) if list(ours.values()) == list(theirs.values()) else {}


def _unique_in_one_order(
    ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable], pairs: Mapping[str, str]
) -> dict[str, str]:
    """The layers of a kind and shape that no other has, where both sides have the same layers in one order."""
    counts, taken = Counter(ours.values()), set(pairs.values())
    return {
        name: other
        for name, other in same_place(ours, theirs).items()
        if counts[ours[name]] == 1 and name not in pairs and other not in taken
    }


def _by_running_number(mine: _Skeletons, others: _Skeletons) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The pairs of layers whose names differ by numbers alone; and for the others of ours all that they may be."""
    partners = _partners(mine, others)
    pairs: dict[str, str] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    for signature, skeletons in mine.items():
        alike = others.get(signature, {})
        every = tuple(name for candidates in alike.values() for name in candidates)
        for skeleton, names in skeletons.items():
            candidates = alike.get(partners.get(skeleton, ""), [])
            if _agree(names, candidates):
                pairs.update(zip(names, candidates, strict=True))
            elif every:
                ambiguous.update(dict.fromkeys(names, every))
    return pairs, ambiguous


def _between_pairs(
    ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable], pairs: Mapping[str, str]
) -> dict[str, str]:
    """The layers between two pairs that are neighbours on both sides, where kind and shape, or numbers, decide.

    Between them both sides must have the same layers: where one lists a shortcut before a branch and the other behind
    it, they have not. Several of one kind and shape are paired in order where on each side a running number alone
    distinguishes them: of words, as query and key, none says which is which.
    """
    settled: dict[str, str] = {}
    their_gaps = dict(_gaps(theirs, set(pairs.values())))
    for (first, last), mine in _gaps(ours, set(pairs)):
        others = their_gaps.get((pairs.get(first, ""), pairs.get(last, "")), [])
        alike, their_alike = _by_signature(ours, mine), _by_signature(theirs, others)
        if {key: len(names) for key, names in alike.items()} == {key: len(names) for key, names in their_alike.items()}:
            for signature, names in alike.items():
                candidates = their_alike[signature]
                if len(names) == 1 or _are_numbered(names, candidates):
                    settled |= dict(zip(names, candidates, strict=True))
    return settled


def _by_signature(layers: Mapping[str, Hashable], names: Iterable[str]) -> dict[Hashable, list[str]]:
    grouped: dict[Hashable, list[str]] = {}
    for name in names:
        grouped.setdefault(layers[name], []).append(name)
    return grouped


def _last_of_their_kind(
    ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable], pairs: Mapping[str, str]
) -> dict[str, str]:
    """The layers that are the only ones left of their kind and shape, where both sides have the same layers."""
    if Counter(ours.values()) != Counter(theirs.values()):
        return {}
    left, taken = {name: signature for name, signature in ours.items() if name not in pairs}, set(pairs.values())
    others = {signature: name for name, signature in theirs.items() if name not in taken}
    counts = Counter(left.values())
    return {name: others[signature] for name, signature in left.items() if counts[signature] == 1}


def _are_numbered(*sides: Sequence[str]) -> bool:
    return all(len({_without_numbers(name) for name in names}) == 1 and _in_order(names) for names in sides)


def _without_numbers(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name)


def _gaps(side: Mapping[str, Hashable], paired: Set[str]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """((the paired layer before, the one behind), the layers between them); "" stands for either end."""
    before, gap = "", []
    for name in (*side, ""):
        if name and name not in paired:
            gap.append(name)
            continue
        if gap:
            yield (before, name), gap
        before, gap = name, []


def _agree(names: Sequence[str], candidates: Sequence[str]) -> bool:
    """Whether running numbers pair these names one by one."""
    return len(candidates) == len(names) and _in_order(names) and _in_order(candidates)


def same_names(ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> dict[str, str]:
    """The layers of one name and one shape, wrappers taken off."""
    named: dict[str, list[str]] = defaultdict(list)
    for name in theirs:
        *_, shortest = unwrapped(dotted(name))
        named[shortest].append(name)
    pairs = {}
    for name, signature in ours.items():
        *_, shortest = unwrapped(name)
        candidates = [other for other in named[shortest] if theirs[other] == signature]
        if len(candidates) == 1:
            pairs[name] = candidates[0]
    return _taken_once(pairs)


def _taken_once(pairs: Mapping[str, str]) -> dict[str, str]:
    """The pairs whose second is no other's."""
    counts = Counter(pairs.values())
    return {name: other for name, other in pairs.items() if counts[other] == 1}


def natural(name: str) -> list[tuple[int, str]]:
    """What to sort by, so that 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _skeletons(side: Mapping[str, Hashable]) -> _Skeletons:
    """Signature → kind of layer, and name without its numbers → names, in order."""
    skeletons: dict[Hashable, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, signature in side.items():
        skeletons[signature][f"{kind_of_signature(signature)}|{_without_numbers(name)}"].append(name)
    return skeletons


def _partners(ours: _Skeletons, theirs: _Skeletons) -> dict[str, str]:
    """Skeleton of ours → the only one of theirs that occurs with the same signatures equally often."""
    others_by_profile = _by_profile(theirs)
    partners: dict[str, str] = {}
    for profile, mine in _by_profile(ours).items():
        others = others_by_profile.get(profile, [])
        partners.update({mine[0]: others[0]} if len(mine) == len(others) == 1 else _by_words(mine, others))
    return partners


def _by_profile(side: _Skeletons) -> dict[Hashable, list[str]]:
    """With which signatures, and how often, they occur → skeletons."""
    profiles: dict[str, Counter[Hashable]] = defaultdict(Counter)
    for signature, skeletons in side.items():
        for skeleton, names in skeletons.items():
            profiles[skeleton][signature] += len(names)
    by_profile: dict[Hashable, list[str]] = defaultdict(list)
    for skeleton, counts in profiles.items():
        by_profile[frozenset(counts.items())].append(skeleton)
    return by_profile


def _by_words(mine: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """The skeletons that share a word which no other of these has."""
    words = {skeleton: _words(skeleton) for skeleton in (*mine, *others)}
    counts = Counter(word for skeleton in mine for word in words[skeleton])
    partners = {}
    for skeleton in mine:
        own = {word for word in words[skeleton] if counts[word] == 1}
        candidates = [other for other in others if own & words[other]]
        if len(candidates) == 1:
            partners[skeleton] = candidates[0]
    return _taken_once(partners)


def _words(skeleton: str) -> set[str]:
    return {word for word in re.split(r"[^a-z]+", skeleton.partition("|")[2].lower()) if len(word) > 1}


def _in_order(names: Sequence[str]) -> bool:
    """Whether the running numbers in the names grow with the order, so that both agree."""
    numbers = [tuple(int(number) for number in re.findall(r"\d+", name)) for name in names]
    return all(earlier < later for earlier, later in pairwise(numbers))
