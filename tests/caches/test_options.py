"""The arguments of cache_features, checked."""

import pytest

from regraft.caches.options import Engine, Options
from regraft.errors import CacheError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "half"}, "No precision 'half'"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"engine": Engine(compute="int4")}, "No compute 'int4'. Choose one of float32, bfloat16, float16"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    """With the right ones."""
    with pytest.raises(CacheError, match=message):
        Options(**wrong)


def test_only_float32_is_exact():
    """Stored and computed."""
    assert Options().is_exact
    assert not Options(precision="bfloat16").is_exact
    assert not Options(engine=Engine(compute="bfloat16")).is_exact
