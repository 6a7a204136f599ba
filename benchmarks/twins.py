"""Networks of keras.applications into their torch twins by structure alone, with no rename: docs/twins.md.

    make twins      writes the networks (benchmarks/twins_keras.py, in an environment of its own), then runs this

Each network has random weights and random batch-norm statistics, so that nothing but the right array at the right
place gives its logits. Where the twin is another function (eps, padding, strides, a bias), the plan says so; this
program then does exactly what the plan's rows ask for, plans again, applies, and compares the logits.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import vision_stub  # noqa: F401  # before torchvision is imported

from regraft.arrays import Checkpoint
from regraft.errors import RegraftError
from regraft.factories import build_model
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan
from regraft.reading import open_checkpoint
from regraft.rows import RequirementRow
from regraft.tf_layers import padded

TWINS: dict[str, tuple[str, dict[str, object]]] = {
    "ResNet50": ("torchvision:resnet50", {}),
    "ResNet101": ("torchvision:resnet101", {}),
    "ResNet152": ("torchvision:resnet152", {}),
    "ResNet50V2": ("timm:resnetv2_50", {}),
    "ResNet101V2": ("timm:resnetv2_101", {}),
    "VGG16": ("torchvision:vgg16", {}),
    "VGG19": ("torchvision:vgg19", {}),
    "DenseNet121": ("torchvision:densenet121", {}),
    "DenseNet169": ("torchvision:densenet169", {}),
    "DenseNet201": ("torchvision:densenet201", {}),
    "MobileNet": ("timm:mobilenetv1_100", {}),
    "MobileNetV2": ("torchvision:mobilenet_v2", {}),
    "MobileNetV3Small": ("torchvision:mobilenet_v3_small", {}),
    "MobileNetV3Large": ("torchvision:mobilenet_v3_large", {}),
    "InceptionV3": ("torchvision:inception_v3", {"aux_logits": False, "init_weights": False}),
    "InceptionResNetV2": ("timm:inception_resnet_v2", {}),
    "Xception": ("timm:legacy_xception", {}),
    "EfficientNetB0": ("timm:tf_efficientnet_b0", {}),
    "EfficientNetB1": ("timm:tf_efficientnet_b1", {}),
    "EfficientNetV2B0": ("timm:tf_efficientnetv2_b0", {}),
    "EfficientNetV2S": ("timm:tf_efficientnetv2_s", {}),
    "ConvNeXtTiny": ("torchvision:convnext_tiny", {}),
    "ConvNeXtSmall": ("timm:convnext_small", {}),
}
for _name in ("ResNet50", "DenseNet121"):
    pass
