"""How features are computed and kept: the arguments of `cache_features`, as one value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from regraft.caches.precision import check_precision
from regraft.errors import CacheError
from regraft.stores.store import Store

COMPUTES = ("float32", "bfloat16", "float16")
RUNTIMES = ("exact", "fast")
CANARIES = 8


@final
@dataclass(frozen=True)
class Share:
    """Which of several builders of one store this is: number `number` of `count`, counted from 0.

    Builders begin at different parts, and each computes the parts that no other has leased. So a share is where a
    builder begins and no limit: what a dead builder leaves is computed by the others.

    Raises CacheError for a number that is not below the count.
    """

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise CacheError(
                f"Share({self.number}, {self.count}): the number must be from 0 to count - 1, so at most "
                f"{self.count - 1}."
            )

    def first(self, parts: int) -> int:
        """The part of so many with which this builder begins."""
        return self.number * parts // self.count


@final
@dataclass(frozen=True)
class Engine:
    """How the trunk is run.

    compute   "float32" runs the trunk as it is; "bfloat16" or "float16" under torch's autocast, which is faster on
              processors made for it and less exact: part of the key
    workers   threads that fetch examples; None chooses
    canaries  stored rows that are computed again before the store is trusted, half of them at random, half the extreme
              ones of a random sample
    runtime   "exact" runs the model's own forward; "fast" compiles the trunk where that is faster and changes features
              by at most 1e-5 of the largest value of a row: part of the key
    share     which of several processes this is that fill one store, so that they begin at different parts
    """

    compute: str = "float32"
    workers: int | None = None
    canaries: int = CANARIES
    runtime: str = "exact"
    share: Share = Share()


@final
@dataclass(frozen=True)
class Options:
    """See `cache_features`. Raises CacheError for values that there are not."""

    store: Store | None = None
    batch_size: int = 64
    precision: str = "float32"
    engine: Engine = Engine()
    head: Callable[[Any], Any] | None = None
    epochs: int | None = None
    tell: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.batch_size < 1:
            raise CacheError(f"batch_size is {self.batch_size}; expected 1 or more.")
        if self.engine.compute not in COMPUTES:
            raise CacheError(f"No compute {self.engine.compute!r}. Choose one of {', '.join(COMPUTES)}.")
        if self.engine.runtime not in RUNTIMES:
            raise CacheError(f"No engine {self.engine.runtime!r}. Choose one of {', '.join(RUNTIMES)}.")
        if self.engine.runtime == "fast" and self.engine.compute != "float32":
            raise CacheError(
                f"The fast engine computes in float32, and compute is {self.engine.compute!r}.\n"
                "Use the exact engine with this compute, or compute='float32' with the fast engine."
            )

    @property
    def is_exact(self) -> bool:
        """Whether the features are computed and stored in float32."""
        return self.precision == self.engine.compute == "float32"
