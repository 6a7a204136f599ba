"""The shared reference material beside the project, where it is present."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINTS = SHARED / "checkpoints"
MNIST = CHECKPOINTS / "mnist"

needs_shared = pytest.mark.skipif(
    not CHECKPOINTS.is_dir(), reason="the reference material ../shared (checkpoints and data) is not on this machine"
)
