"""What an array is for: weight, optimiser slot, moving copy of a weight, or counter.

One table for all readers. A name alone is a suspicion: a network may have a layer called `opt`, `ema` or `adam`. It
becomes a role by evidence: the weight that the slot or copy belongs to is in the checkpoint too, or a counter is a
whole number without axes. Without evidence an array is a weight, because a weight that is listed as a slot would
silently stay unused.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from regraft.arrays import ArrayInfo, Role

_SLOT_WORDS = (
    "Adam|AdamW|Adamax|Nadam|LazyAdam|AMSGrad|Momentum|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|Lamb|LAMB|LARS|"
    "LARSOptimizer|Adafactor|SGD|GradientDescent|ProximalAdagrad|adam_m|adam_v|lamb_m|lamb_v"
)
# Under which trainers keep the moving averages of a whole network; plans take these roots off the names.
EMA_ROOTS = (
    "ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "ema_params", "params_ema", "ema_weights",
    "shadow_params", "averaged_model", "ema_net", "net_ema", "swa_model", "swa_state_dict", "g_ema", "ema_generator",
    "ema_state",
)  # fmt: skip
# Names that frameworks write and nobody gives to a layer.
_CERTAIN: tuple[tuple[Role, Callable[[str], object]], ...] = (
    # TF2: layer/kernel/.OPTIMIZER_SLOT/optimizer/m
    ("optimizer_slot", re.compile(r"\.OPTIMIZER_SLOT(/|$)").search),
    ("optimizer_slot", re.compile(r"(^|[/.])(beta[12]_power|momentum_cache)(_\d+)?$").search),
    # opt_state/0/mu/…, optimizer_states.0.state.0.exp_avg, optimizer.state.0.momentum_buffer, optimizer/vars/3
    ("optimizer_slot", re.compile(r"^(opt_state|optimizer_states?|optimizer_weights)[/.]").search),
    ("optimizer_slot", re.compile(r"^(optimizers?|optim|opt)([/.]\d+)?[/.](state|vars|param_groups)[/.]\d+").search),
    ("optimizer_slot", re.compile(r"[/.](exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer)$").search),
    ("counter", re.compile(r"(^|[/.])(global_step|save_counter)(_\d+)?$").search),
    # tf_keras keeps the sums of its metrics and the optimiser's rate beside the weights
    ("counter", re.compile(r"(^|/)keras_api/metrics/\d+/").search),
    ("counter", re.compile(r"(^|/)optimizer/_(learning_rate|iterations)$").search),
)
# Slots and copies beside the weight: its name and one word more.
_BESIDE: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("optimizer_slot", re.compile(rf"(?P<weight>.+)/({_SLOT_WORDS})(_\d+)?(?P<part>/part_\d+)?")),
    ("ema", re.compile(r"(?P<weight>.+)/(?:[^/]*/)*[^/]*ExponentialMovingAverage(_\d+)?(?P<part>/part_\d+)?")),
)
# Slots and copies under a root of their own: adam/dense_kernel_momentum, training/Adam/dense/kernel/m, ema.layer.weight
_UNDER: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (
        "optimizer_slot",
        re.compile(
            rf"(?P<root>(?:training/)?(?:{_SLOT_WORDS}|optimizers?|optim|opt)(?:_\d+)?)[/.](?P<rest>.+)", re.IGNORECASE
        ),
    ),
    ("ema", re.compile(rf"(?P<root>{'|'.join(EMA_ROOTS)})[/.](?P<rest>.+)")),
)
# BatchNorm's num_batches_tracked counts too, but is part of the module's state: torch asks for it.
_COUNTER = re.compile(r"(?:.*[/.])?(?:iterations?|_iterations|step|iter|epoch)(?:_\d+)?")
_OF_OPTIMISER = re.compile(
    r"(?:.*[/.])?(?:_?iterations?|iter|step|_?learning_rate|lr|decay|loss_scale|good_steps|current_loss_scale|count)",
    re.IGNORECASE,
)
_SEPARATORS, _SLASH_OR_DOT = re.compile(r"[/._]+"), re.compile(r"[/.]+")
_SLOTS = (
    "m|v|vhat|v_hat|momentums?|velocity|velocitys|velocities|velocity_hat|rms|mg|mean_square|mean_gradient|"
    "accumulators?|accumulated_grad|accumulated_delta_var|average_gradient|accum_grad|accum_var|linear|r|c"
)
_LAST_SLOT_WORD = re.compile(rf"[/._](?:{_SLOTS})(?:_\d+)?$")
_FIRST_SLOT_WORD = re.compile(rf"^(?:{_SLOTS})[/.]")
# Parts that every name with a role has, in small letters.
_SUSPICIOUS = (
    "ada", "opt", "moment", "rmsprop", "ftrl", "lamb", "lars", "sgd", "gradientdescent", "beta1_power", "beta2_power",
    "exp_avg", "movingaverage", "averaged", "swa_",
    "ema", "shadow", "step", "save_counter", "iter", "epoch", "keras_api",
)  # fmt: skip


def with_roles(infos: Mapping[str, ArrayInfo]) -> dict[str, ArrayInfo]:
    """The same arrays, each with its role."""
    roles = roles_of(infos)
    return {name: replace(info, role=roles[name]) if name in roles else info for name, info in infos.items()}


def roles_of(infos: Mapping[str, ArrayInfo]) -> dict[str, Role]:
    """name → role, of those arrays of a checkpoint that are no weights.

    >>> two = ArrayInfo((2,), "float32")
    >>> roles_of({"w": two, "w/Adam": two, "opt/w": two})
    {'w/Adam': 'optimizer_slot'}
    """
    roles: dict[str, Role] = {}
    under: dict[tuple[Role, str], list[tuple[str, str]]] = defaultdict(list)
    for name in _suspects(infos):
        role = _by_itself(name, infos)
        if role is not None:
            roles[name] = role
            continue
        matches = ((group, match) for group, pattern in _UNDER if (match := pattern.fullmatch(name)))
        for group, match in islice(matches, 1):
            under[group, match["root"]].append((name, match["rest"]))
    for (role, _), members in under.items():
        roles |= _of_group(role, members, infos, roles)
    return roles


def _suspects(names: Iterable[str]) -> list[str]:
    """The names that hold a word which every name with a role holds."""
    known = list(names)
    # One pass over all names at once: most checkpoints hold nothing suspicious, and ten rules a name would be slow.
    everything = "\n".join(known).lower()
    parts = [part for part in _SUSPICIOUS if part in everything]
    return [name for name in known if any(part in name.lower() for part in parts)] if parts else []


def role_of(name: str) -> Role:
    """What the name alone proves, for a reader that knows nothing more; "weight" when it proves nothing."""
    return next((role for role, applies in _CERTAIN if applies(name)), "weight")


def _by_itself(name: str, infos: Mapping[str, ArrayInfo]) -> Role | None:
    """The role that the name, its kind or the weight beside it prove; None when they prove none."""
    certain = role_of(name)
    if certain != "weight":
        return _or_counter(certain, name, infos[name].shape)
    beside = next((role for role, pattern in _BESIDE if _is_beside(pattern.fullmatch(name), infos)), None)
    is_counter = infos[name].shape == () and "int" in infos[name].dtype and _COUNTER.fullmatch(name)
    return beside or ("counter" if is_counter else None)


def _or_counter(role: Role, name: str, shape: tuple[int, ...]) -> Role:
    """The role, or "counter" for a number that is named as optimisers name theirs."""
    return "counter" if shape == () and _OF_OPTIMISER.fullmatch(name) else role


def _is_beside(match: re.Match[str] | None, infos: Mapping[str, ArrayInfo]) -> bool:
    """Whether the weight that a matching name belongs to is in the file."""
    if match is None:
        return False
    return match["weight"] + (match["part"] or "") in infos or _has_parent(match["weight"], infos)


def _has_parent(weight: str, infos: Mapping[str, ArrayInfo]) -> bool:
    """TF1 repeats a scope inside a slot's name: `scope/w/scope/w/ExponentialMovingAverage` belongs to `scope/w`."""
    half = len(weight) // 2
    return len(weight) % 2 == 1 and weight[:half] == weight[half + 1 :] and weight[:half] in infos


def _of_group(
    role: Role, members: Collection[tuple[str, str]], infos: Mapping[str, ArrayInfo], known: Mapping[str, Role]
) -> dict[str, Role]:
    """The roles of arrays that share a root, when most of those with axes have their weight outside of it."""
    inside = dict(members).keys() | known.keys()
    outside = set[str]().union(*map(_plain_without_root, infos.keys() - inside))
    with_axes = [rest for name, rest in members if infos[name].shape]
    if not with_axes or not _most_belong_to(outside, role, with_axes):
        return {}
    return {name: _or_counter(role, rest, infos[name].shape) for name, rest in members}


def _most_belong_to(weights: Collection[str], role: Role, names: Sequence[str]) -> bool:
    """Whether at least half of the names belong to one of the weights, as arrays of this role do."""
    owned = _slot_owners if role == "optimizer_slot" else _plain_without_root
    return 2 * sum(not owned(name).isdisjoint(weights) for name in names) >= len(names)


def _slot_owners(rest: str) -> set[str]:
    """The weights that the slot may belong to: its name without the slot's own word; none when there is no such word.

    >>> sorted(_slot_owners("net_conv_kernel_momentum"))
    ['convkernel', 'netconvkernel']
    """
    shorter = {_LAST_SLOT_WORD.sub("", rest), _FIRST_SLOT_WORD.sub("", rest)} - {rest}
    return {plain for name in shorter for plain in _plain_without_root(name)}


def _plain_without_root(name: str) -> set[str]:
    """The name without separators, whole and without its first part when two or more parts are left.

    Writers join the parts of a name by a slash, a dot, an underscore or nothing.
    """
    is_plain = "/" not in name and "." not in name
    first, *others = (_SEPARATORS if is_plain else _SLASH_OR_DOT).split(name)
    forms = [name, "".join(others)] if first and len(others) > 1 else [name]
    return {_SEPARATORS.sub("", form) for form in forms}
