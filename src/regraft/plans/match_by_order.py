"""Which of their layers is which of ours where nothing tells the wiring: by equal names, order, and words in names."""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

from regraft.plans.graphs import Matches
from regraft.plans.renaming import dotted, unwrapped
from regraft.plans.signatures import kind_of_signature

_Skeletons = Mapping[Hashable, Mapping[str, Sequence[str]]]


def match_orders(ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> Matches:
    """Pair layers of one kind and shape where nothing but a running number tells them apart, on both sides.

    Layers that are told apart by words (shortcut, query) are paired word by word, and only when the words are the same
    or the pattern in which they occur is unique. What then still fits several ways is ambiguous: order alone would
    take a block's shortcut for its last convolution.
    """
    pairs = same_names(ours, theirs)
    ours = {name: signature for name, signature in ours.items() if name not in pairs}
    theirs = {name: signature for name, signature in theirs.items() if name not in pairs.values()}
    sides = [_skeletons(side) for side in (ours, theirs)]
    ambiguous: dict[str, tuple[str, ...]] = {}
    partner = _partners(*sides)
    for signature, mine in sides[0].items():
        others = sides[1].get(signature, {})
        for skeleton, names in mine.items():
            fitting = others.get(partner.get(skeleton, ""), [])
            if len(fitting) == len(names) and _in_order(names) and _in_order(fitting):
                pairs.update(zip(names, fitting, strict=True))
            elif others:
                every = tuple(name for candidates in others.values() for name in candidates)
                ambiguous.update(dict.fromkeys(names, every))
    return Matches(pairs, ambiguous)


def same_names(ours: Mapping[str, Hashable], theirs: Mapping[str, Hashable]) -> dict[str, str]:
    """The layers of one name and one shape, wrappers taken off."""
    named: dict[str, list[str]] = defaultdict(list)
    for name in theirs:
        *_, shortest = unwrapped(dotted(name))
        named[shortest].append(name)
    found = {}
    for name, signature in ours.items():
        *_, shortest = unwrapped(name)
        fitting = [other for other in named[shortest] if theirs[other] == signature]
        if len(fitting) == 1:
            found[name] = fitting[0]
    taken = Counter(found.values())
    return {name: other for name, other in found.items() if taken[other] == 1}


def natural(name: str) -> list[tuple[int, str]]:
    """What to sort by, so that 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _skeletons(side: Mapping[str, Hashable]) -> dict[Hashable, dict[str, list[str]]]:
    """Signature → kind of layer, and name without its numbers → names, in order."""
    found: dict[Hashable, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, signature in side.items():
        found[signature][f"{kind_of_signature(signature)}|{re.sub(r'[0-9]+', '#', name)}"].append(name)
    return found


def _partners(ours: _Skeletons, theirs: _Skeletons) -> dict[str, str]:
    """Skeleton of ours → the only one of theirs that occurs with the same signatures equally often."""
    profiles = []
    for side in (ours, theirs):
        profile: dict[str, Counter[Hashable]] = defaultdict(Counter)
        for signature, skeletons in side.items():
            for skeleton, names in skeletons.items():
                profile[skeleton][signature] += len(names)
        by_profile: dict[frozenset, list[str]] = defaultdict(list)
        for skeleton, counts in profile.items():
            by_profile[frozenset(counts.items())].append(skeleton)
        profiles.append(by_profile)
    found = {}
    for profile_key, mine in profiles[0].items():
        others = profiles[1].get(profile_key, [])
        if len(mine) == len(others) == 1:
            found[mine[0]] = others[0]
        else:
            found.update(_by_words(mine, others))
    return found


def _by_words(mine: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """The skeletons that share a word which no other of these has."""
    found = {}
    for skeleton in mine:
        rest = {word for other in mine if other != skeleton for word in _words(other)}
        own = _words(skeleton) - rest
        fitting = [other for other in others if own & _words(other)]
        if len(fitting) == 1 and not any((_words(one) - _words(skeleton)) & own for one in mine if one != skeleton):
            found[skeleton] = fitting[0]
    taken = Counter(found.values())
    return {one: other for one, other in found.items() if taken[other] == 1}


def _words(skeleton: str) -> set[str]:
    return {word for word in re.split(r"[^a-z]+", skeleton.partition("|")[2].lower()) if len(word) > 1}


def _in_order(names: Sequence[str]) -> bool:
    """Whether the running numbers in the names grow with the order, so that both tell the same."""
    numbers = [tuple(int(number) for number in re.findall(r"\d+", name)) for name in names]
    return all(one < two for one, two in pairwise(numbers))
