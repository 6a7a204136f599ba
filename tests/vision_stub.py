"""Lets torchvision (and so timm) be imported without its compiled operators, for tests.

torchvision has no build for the CPU wheel of torch used here; its Python code only needs these two to be defined.
Detection models call `nms`, which has a plain definition here; `roi_align` has one in torchvision.
"""

import sys

import torch
from torch import Tensor

# Kept alive: the definitions vanish with the library object.
LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that no better box overlaps, best first; dets (n, 4) as x1, y1, x2, y2."""
    order = scores.argsort(descending=True, stable=True)
    boxes = dets[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    top_left = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (bottom_right - top_left).clamp(min=0).prod(2)
    overlaps = common / (area[:, None] + area[None] - common) > iou_threshold
    kept = torch.ones(len(boxes), dtype=torch.bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~overlaps[index, index + 1 :]
    return order[kept]


LIBRARY.impl("nms", nms, "CPU")


def let_detection_run() -> None:
    """Make torchvision's box functions call `nms` though its compiled library is absent."""
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None
    # Its stand-in for roi_align hands itself to torch.compile, for each size anew: minutes that no user with the
    # compiled operator spends.
    pooling = sys.modules["torchvision.ops.roi_align"]
    pooling._roi_align = getattr(pooling._roi_align, "__wrapped__", pooling._roi_align)
