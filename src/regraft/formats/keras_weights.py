"""The arrays of a Keras file under their readable names, the quantised ones as the numbers that they stand for.

Source: keras.layers.Dense and Embedding, `quantize("int8")`: value = integer / scale, a scale for each unit or row.
"""

from dataclasses import dataclass, replace

import numpy as np

from regraft.containers.hdf5.tree import InPieces
from regraft.containers.spans import Located

_AXES = {"Dense": -1, "Embedding": 0}  # class → the axis along which int8 has a scale each
_CODED = ("int8", "uint8")
_CODES = "codes of {}, which this reader does not turn into numbers for a {}: save the model before it is quantised"


@dataclass(frozen=True)
class Scaled:
    """Integers and their scales.  axis  of the scales"""

    integers: Located | InPieces
    scale: Located | InPieces
    axis: int
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the integers."""
        return self.integers.shape

    def read(self) -> np.ndarray:
        """The numbers as float32."""
        along = [1] * len(self.shape)
        along[self.axis] = -1
        with np.errstate(divide="ignore", invalid="ignore"):  # a damaged scale: the plan refuses what is not finite
            return self.integers.read().astype(np.float32) / self.scale.read().astype(np.float32).reshape(along)


@dataclass(frozen=True)
class Weight:
    """One array of the file: its readable name, its place, and the layer that owns it.

    is_state  whether it belongs to the optimiser
    is_code   whether it holds integers that stand for numbers in a way that is not read
    """

    name: str
    array: Located | InPieces | Scaled
    layer: str
    layer_type: str
    note: str = ""
    is_state: bool = False
    is_code: bool = False

    @property
    def leaf(self) -> str:
        """What follows the layer's path."""
        return self.name.removeprefix(f"{self.layer}/") if self.layer else ""


def dequantised(weights: list[Weight]) -> list[Weight]:
    """The weights, each of int8 with its scale as numbers; other codes are marked, so that nothing takes them."""
    by_name = {weight.name: weight for weight in weights}
    return [_dequantised(weight, by_name.get(f"{weight.name}_scale")) for weight in weights]


def _dequantised(weight: Weight, scale: Weight | None) -> Weight:
    if weight.array.dtype not in _CODED or not weight.layer_type or weight.is_state:
        return weight
    if scale is None or weight.layer_type not in _AXES or not _fits(weight, scale):
        return replace(weight, is_code=True, note=_CODES.format(weight.array.dtype, weight.layer_type))
    axis = _AXES[weight.layer_type]
    note = f"dequantised from {weight.array.dtype}, {scale.array.shape[0]} scales along axis {axis % 2}"
    return replace(weight, array=Scaled(_stored(weight), _stored(scale), axis), note=note)


def _fits(weight: Weight, scale: Weight) -> bool:
    """Whether there is a scale for each place on the axis, and none of the zero points and groups of int4."""
    axis = _AXES[weight.layer_type]
    return len(weight.array.shape) == 2 and scale.array.shape == (weight.array.shape[axis],)


def _stored(weight: Weight) -> Located | InPieces:
    """The array as it lies in the file."""
    return weight.array.integers if isinstance(weight.array, Scaled) else weight.array
