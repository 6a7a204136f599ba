"""How a network's images are prepared, as far as the nodes at its front record it."""

from dataclasses import dataclass
from math import isqrt

from regraft.networks.network import Literal, Network, NetworkInput, Node

_SCALES = ((1 / 255, 1e-4), (1 / 127.5, 1e-4), (1 / 128, 1e-4), (2 / 255, 1e-4))  # of bytes; relative tolerance


@dataclass(frozen=True)
class ImageInput:
    """The image that a network takes.

    size      (height, width); None where it may be any
    channels  1 or 3
    is_bytes  whether the network itself scales values from 0 to 255; False where nothing at its front does
    is_flat   whether it takes the image as a vector, row by row
    """

    size: tuple[int, int] | None
    channels: int
    is_bytes: bool
    is_flat: bool = False


def image_input(network: Network) -> ImageInput | None:
    """The network's image, when its only input is one; a vector whose length is a square is a grey image."""
    if len(network.entries) != 1:
        return None
    entry = network.entries[0]
    if len(entry.shape) == 2 and (length := entry.shape[1]) and isqrt(length) ** 2 == length:
        return ImageInput((isqrt(length), isqrt(length)), 1, _scales_bytes(network, entry), is_flat=True)
    if len(entry.shape) != 4:
        return None
    last, first = entry.shape[3], entry.shape[1]
    if last in (1, 3):
        height, width, channels = entry.shape[1], entry.shape[2], last
    elif first in (1, 3):
        height, width, channels = entry.shape[2], entry.shape[3], first
    else:
        return None
    size = (height, width) if height is not None and width is not None else None
    return ImageInput(size, channels, _scales_bytes(network, entry))


def _scales_bytes(network: Network, entry: NetworkInput) -> bool:
    """Whether the first steps divide by about 255, or by half of it: then the values are bytes."""
    value = entry.name
    for node in network.nodes:
        if not node.values or node.values[0] != value or node.layer:
            continue
        factor = _factor(node)
        if factor is not None and any(abs(factor - scale) <= tolerance * scale for scale, tolerance in _SCALES):
            return True
        value = node.outputs[0]
    return False


def _factor(node: Node) -> float | None:
    """What the step multiplies by, if it does."""
    constants = [value.value for value in node.inputs if isinstance(value, Literal)]
    if len(constants) != 1 or not isinstance(constants[0], int | float) or not constants[0]:
        return None
    return {"mul": float(constants[0]), "div": 1 / constants[0]}.get(node.operator)
