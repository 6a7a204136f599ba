"""The translation of every TensorFlow operation, by its word."""

from collections.abc import Mapping

from regraft.networks.tensorflow_branches import BRANCHES
from regraft.networks.tensorflow_choices import CHOICES
from regraft.networks.tensorflow_layers import LAYERS
from regraft.networks.tensorflow_numbers import NUMBERS
from regraft.networks.tensorflow_shapes import SHAPES
from regraft.networks.tensorflow_states import STATES
from regraft.networks.tensorflow_translation import Translate

TABLE: Mapping[str, Translate] = {**NUMBERS, **SHAPES, **LAYERS, **STATES, **BRANCHES, **CHOICES}
