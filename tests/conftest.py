"""Set-up for all tests."""

import vision_stub  # noqa: F401  # before any test imports torchvision or timm
