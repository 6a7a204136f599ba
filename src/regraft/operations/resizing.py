"""One table of positions → one for another number of positions, by interpolation."""

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from regraft.operations.operation import Each, Shape, refusal


@final
@dataclass(frozen=True)
class ResizePositions(Each):
    """A table of positions interpolated to another grid; positions lie half a step from the edges.

    axis       of the positions: the one that holds the grid flattened, row by row, or the first of the grid's own axes
    grid       the positions as stored: (h, w) of images, (n,) of texts
    to         the positions afterwards, as many axes
    kept       tokens before a flattened grid that have no position (class, distillation): kept as they are
    antialias  a wider kernel where the grid shrinks; torch's bicubic kernel is another one with it (a = -1/2, not -3/4)

    Two axes are interpolated bicubically, one linearly. The values are computed in float32.
    Source: two axes as `resample_abs_pos_embed` of timm (with antialias) and `load_pretrained` of Swin's authors
    (without); one axis as `resize_text_pos_embed` of open_clip.
    """

    axis: int
    grid: tuple[int, ...]
    to: tuple[int, ...]
    kept: int = 0
    is_flat: bool = True
    antialias: bool = True

    def _shape(self, shape: Shape) -> Shape:
        width = 1 if self.is_flat else len(self.grid)
        stored = (self.kept + prod(self.grid),) if self.is_flat else self.grid
        if len(self.grid) != len(self.to) or shape[self.axis : self.axis + width] != stored:
            raise refusal(self, shape, f"axis {self.axis} must hold {self._words(self.grid)} positions")
        after = (self.kept + prod(self.to),) if self.is_flat else self.to
        return (*shape[: self.axis], *after, *shape[self.axis + width :])

    def _one(self, array: np.ndarray) -> np.ndarray:
        result = np.empty(self._shape(array.shape), array.dtype)
        before, rest = (slice(None),) * self.axis, array
        if self.is_flat:
            result[(*before, slice(self.kept))] = array[(*before, slice(self.kept))]
            rest = array[(*before, slice(self.kept, None))]
        lead, trail = rest.shape[: self.axis], rest.shape[self.axis + (1 if self.is_flat else len(self.grid)) :]
        resized = self._resized(rest.reshape(prod(lead), prod(self.grid), prod(trail)))
        after = (prod(self.to),) if self.is_flat else self.to
        result[(*before, slice(self.kept, None))] = resized.reshape((*lead, *after, *trail))
        return result

    def _resized(self, tables: np.ndarray) -> np.ndarray:
        """(tables, positions, values) → the same with the new positions."""
        import torch  # torch's own kernels, so that the values are those of the sources above
        from torch.nn.functional import interpolate

        maps = torch.tensor(tables, dtype=torch.float32).transpose(1, 2)
        maps = maps.reshape(*maps.shape[:2], *self.grid)
        if len(self.grid) == 1:
            new = interpolate(maps, size=self.to, mode="linear", align_corners=False)
        else:
            new = interpolate(maps, size=self.to, mode="bicubic", align_corners=False, antialias=self.antialias)
        return new.flatten(2).transpose(1, 2).numpy()

    def _words(self, grid: tuple[int, ...]) -> str:
        tokens = f" (behind {self.kept} token{'s' * (self.kept > 1)})" if self.kept else ""
        return "×".join(map(str, grid)) + tokens

    def __str__(self) -> str:
        how = "linear" if len(self.grid) == 1 else f"bicubic{'' if self.antialias else ' without antialias'}"
        return f"positions {self._words(self.grid)} -> {self._words(self.to)}, {how}"
