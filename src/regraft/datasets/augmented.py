"""Images of another data set, flipped and shifted at random: for stored views, or for training without a cache."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from regraft.datasets.labelled import Labelled
from regraft.errors import DataError


@final
class Augmented(Labelled):
    """Each image mirrored left to right half of the time, and shifted; what comes in repeats the border.

    whole  gives images (channels, height, width)
    flip   whether to mirror; not for letters and digits
    shift  by up to this part of height and width

    Draws from torch's global generator, which `cache_features(views=…)` seeds for each example and view.
    Raises DataError when the examples are no images, or their labels are masks.
    """

    def __init__(self, whole: Labelled, *, flip: bool = True, shift: float = 0.1) -> None:
        if not 0 <= shift < 1:
            raise DataError(f"shift is {shift}, expected a part of the image: at least 0 and less than 1.")
        if whole.target.task == "segmentation":
            raise DataError("Images with masks are not flipped and shifted: their masks would stay. Leave out views.")
        self._resemble(whole)
        self.whole, self.flip, self.shift = whole, flip, shift
        self.labels, self.ids = whole.labels, whole.ids

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.whole[index]
        if not isinstance(image, Tensor) or image.ndim != 3:
            shape = tuple(getattr(image, "shape", ()))
            raise DataError(
                f"Example {index} has the shape {shape}; only images (channels, height, width) are shifted."
            )
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(2)
        for axis in (1, 2):
            most = int(self.shift * image.shape[axis])
            by = int(torch.randint(-most, most + 1, ()))
            indices = (torch.arange(image.shape[axis]) + by).clamp(0, image.shape[axis] - 1)
            image = image.index_select(axis, indices)
        return image, label

    def content_ids(self, indices: Sequence[int] | None = None) -> list[str] | None:
        """Those of the other data set, with what is drawn."""
        known = self.whole.content_ids(indices)
        return None if known is None else [f"{name} flip={self.flip} shift={self.shift}" for name in known]
