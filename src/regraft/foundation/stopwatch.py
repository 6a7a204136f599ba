"""Where the time went: seconds by the name of the part."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Where the time went: seconds by the name of the part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the block's duration to the part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began
