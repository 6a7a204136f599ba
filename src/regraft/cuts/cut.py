"""The cut as the user sees it: which tensors cross from trunk to head, what they weigh, what they save."""

from dataclasses import dataclass

import torch

from regraft.wording import counted


@dataclass(frozen=True)
class Leaf:
    """One tensor that crosses from trunk to head.

    name    of the layer that gives it ("layer3"; "layer3#2" for its next call or output), or "input:x"
    shape   of one example, without the batch
    varying the dimensions of `shape` that another length of the inputs makes longer or shorter
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes_per_example: int
    varying: tuple[int, ...] = ()

    @property
    def sizes(self) -> list[int | None]:
        """The shape; None where the length of the inputs decides, so that examples of any length mean the same leaf."""
        return [None if axis in self.varying else size for axis, size in enumerate(self.shape)]


@dataclass(frozen=True)
class Cut:
    """What crosses from trunk to head; prints as a table.

    work_saved  the part of the forward's multiply-adds that lies in the trunk, 0 to 1
    by_row      whether every leaf has one row per example that does not depend on the others of its batch; otherwise
                the features hold for their batch as a whole, and cannot be cached by example
    """

    leaves: tuple[Leaf, ...]
    work_saved: float
    by_row: bool = True
    note: str = ""

    @property
    def bytes_per_example(self) -> int:
        """Bytes of one example's features."""
        return sum(leaf.bytes_per_example for leaf in self.leaves)

    def __str__(self) -> str:
        width = max([len(leaf.name) for leaf in self.leaves] + [7])
        lines = [
            f"{leaf.name:<{width}}  {_shape_text(leaf):<16} {str(leaf.dtype).removeprefix('torch.'):<9}"
            f" {leaf.bytes_per_example:>12,} bytes"
            for leaf in self.leaves
        ]
        total = f"{counted(len(self.leaves), 'tensor', 'crosses/cross')}: {counted(self.bytes_per_example, 'byte')} per"
        lines.append(f"{total} example, {self.work_saved:.1%} of the forward's work saved")
        return "\n".join([*lines, self.note] if self.note else lines)


def _shape_text(leaf: Leaf) -> str:
    """`256 × 14 × 14`; a size that varies has a star: `128* × 768`."""
    sizes = [f"{size}{'*' * (axis in leaf.varying)}" for axis, size in enumerate(leaf.shape)]
    return " × ".join(sizes) or "scalar"
