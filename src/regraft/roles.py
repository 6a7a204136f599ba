"""What an array is for, judged by its name: weight, optimiser slot, moving copy of a weight, or counter.

One table for all readers. The words are those that the frameworks themselves put into names; a name that none of the
rules knows is a weight, because a weight that is listed as a slot would silently stay unused.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from regraft.arrays import Role

_SLOT_WORDS = (
    "Adam|AdamW|Adamax|Nadam|LazyAdam|AMSGrad|Momentum|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|Lamb|LAMB|LARS|"
    "LARSOptimizer|Adafactor|SGD|GradientDescent|ProximalAdagrad|adam_m|adam_v|lamb_m|lamb_v"
)
_RULES: tuple[tuple[Role, Callable[[str], object]], ...] = (
    # TF2: layer/kernel/.OPTIMIZER_SLOT/optimizer/m; Keras 3: optimizer/… with momentums and velocities
    ("optimizer_slot", re.compile(r"\.OPTIMIZER_SLOT(/|$)").search),
    # the slot creator's own word, once or with TF's _1, at the end or before a partition's name
    ("optimizer_slot", re.compile(rf"/({_SLOT_WORDS})(_\d+)?(/part_\d+)?$").search),
    # adam/dense_kernel_momentum, training/Adam/dense/kernel/m, Adam/dense/kernel/v, opt/state/0/exp_avg
    ("optimizer_slot", re.compile(rf"^(training/)?({_SLOT_WORDS.lower()})(_\d+)?/.+", re.IGNORECASE).search),
    ("optimizer_slot", re.compile(r"(^|[/.])(beta[12]_power|momentum_cache)(_\d+)?$").search),
    ("optimizer_slot", re.compile(r"^(opt_state|optimizer|optimizers|optimizer_states|optim|opt)[/.]").search),
    ("optimizer_slot", re.compile(r"[/.](exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer)$").search),
    ("ema", re.compile(r"(^|/)[^/]*ExponentialMovingAverage(_\d+)?(/part_\d+)?$").search),
    ("ema", re.compile(r"^(ema|ema_model|model_ema|ema_state_dict|state_dict_ema|ema_params)[/.]").search),
    # BatchNorm's num_batches_tracked counts too, but is part of the module's state: torch asks for it.
    (
        "counter",
        re.compile(r"(^|[/.])(global_step|save_counter|iterations?|_iterations|step|iter|epoch)(_\d+)?$").search,
    ),
)
_COUNTERS_OF_OPTIMISERS = re.compile(
    r"(^|[/.])(_?iterations?|iter|_?learning_rate|lr|decay|loss_scale|good_steps|current_loss_scale)$", re.IGNORECASE
)


@lru_cache(maxsize=65536)
def role_of(name: str) -> Role:
    """What the array of this name is for.

    >>> [role_of(n) for n in ("dense/kernel/Adam_1", "bn/moving_mean", "global_step", "w/ExponentialMovingAverage")]
    ['optimizer_slot', 'weight', 'counter', 'ema']
    """
    for role, applies in _RULES:
        if applies(name):
            return "counter" if role == "optimizer_slot" and _COUNTERS_OF_OPTIMISERS.search(name) else role
    return "weight"
