"""All functions and layers that torch lacks, by name: those of `runtime` and of `runtime_indexing`."""

import math
from typing import Any

from regraft.networks import runtime, runtime_indexing

_MODULES = (runtime, runtime_indexing)
HELPERS: dict[str, Any] = {
    name: item
    for module in _MODULES
    for name, item in vars(module).items()
    if getattr(item, "__module__", "") == module.__name__
}
# What the code of a network may name beside them.
FRAME: dict[str, Any] = {name: vars(runtime)[name] for name in ("torch", "F", "nn", "Tensor")} | {"math": math}
