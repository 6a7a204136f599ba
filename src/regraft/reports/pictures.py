"""Inputs of a model as small pictures that an HTML page can hold: what the model saw, after its preparation."""

import base64
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

SIDE = 96  # pixels of the longer side; larger images are reduced, smaller ones stay
CHANNELS = (1, 3)


def pictures_of(inputs: Sequence[object]) -> list[str]:
    """A data URI for each input; "" for one that is no image of shape (1 or 3, height, width).

    The values are stretched to the range of all images together, channel by channel: that undoes a mean and a standard
    deviation, and an image that was prepared in a wrong way looks wrong.
    """
    images = [_image_of(each) for each in inputs]
    known = [image for image in images if image is not None]
    if not known:
        return [""] * len(inputs)
    channels = known[0].shape[0]
    low, high = (_extreme(known, channels, largest=largest) for largest in (False, True))
    return [_stretched(image, low, high) for image in images]


def _image_of(value: object) -> Tensor | None:
    return value.float() if isinstance(value, Tensor) and _is_image(value) else None


def _stretched(image: Tensor | None, low: Tensor, high: Tensor) -> str:
    """The data URI of an image of as many channels as these; "" without one."""
    if image is None or image.shape[0] != low.shape[0]:
        return ""
    return _data_uri(((image - low) / (high - low).clamp_min(1e-12) * 255).round().byte())


def _is_image(tensor: Tensor) -> bool:
    return tensor.ndim == 3 and tensor.shape[0] in CHANNELS and min(tensor.shape[1:]) > 1


def _extreme(images: Sequence[Tensor], channels: int, *, largest: bool) -> Tensor:
    """The smallest or largest finite value of each channel, (channels, 1, 1)."""
    reduce = torch.amax if largest else torch.amin
    values = [reduce(torch.nan_to_num(image), (1, 2)) for image in images if image.shape[0] == channels]
    return reduce(torch.stack(values), 0).reshape(channels, 1, 1)


def _data_uri(pixels: Tensor) -> str:
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, options = ("PNG", {}) if max(image.size) <= 32 else ("JPEG", {"quality": 80})
    file = BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
