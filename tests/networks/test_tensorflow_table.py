"""Every operation has one translation."""

from regraft.networks import (
    tensorflow_branches,
    tensorflow_choices,
    tensorflow_layers,
    tensorflow_numbers,
    tensorflow_shapes,
    tensorflow_states,
)
from regraft.networks.tensorflow_table import TABLE

TABLES = (tensorflow_numbers.NUMBERS, tensorflow_shapes.SHAPES, tensorflow_layers.LAYERS, tensorflow_states.STATES,
          tensorflow_branches.BRANCHES, tensorflow_choices.CHOICES)  # fmt: skip


def test_the_table_holds_all_others():
    """A layer comes before the step of the same word."""
    assert set(TABLE) == {word for table in TABLES for word in table}
    assert TABLE["GatherV2"] is tensorflow_layers.LAYERS["GatherV2"]
