"""Lets torchvision (and so timm) be imported without its compiled operators, for tests.

torchvision has no build for the CPU wheel of torch used here; its Python code only needs these two to be defined.
"""

import torch

# Kept alive: the definitions vanish with the library object.
LIBRARY = torch.library.Library("torchvision", "DEF")
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
