"""A damaged description is refused, and nothing else is hidden."""

from pathlib import Path

import pytest

from regraft.errors import BuildError, CheckpointError
from regraft.networks.damage import refused_damage


@pytest.mark.parametrize(
    "error", [KeyError("input"), TypeError("int"), ValueError("x"), RecursionError(), IndexError()]
)
def test_a_value_of_another_kind_names_the_file(error):
    """What a hostile configuration ends in."""
    words = rf"model.keras: the description .*\({type(error).__name__}"
    with pytest.raises(BuildError, match=words), refused_damage(Path("model.keras")):
        raise error


def test_other_errors_pass():
    """Those of regraft say more, and a lack of memory is no damage."""
    for error in (CheckpointError("a"), MemoryError()):
        with pytest.raises(type(error)), refused_damage(Path("model.keras")):
            raise error
