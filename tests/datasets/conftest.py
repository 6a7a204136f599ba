"""Image folders on disk."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of three images each, and a stray text file."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.fromarray(generator.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / name / f"{index}.png")
    (tmp_path / "cat" / "readme.txt").write_text("about cats")
    return tmp_path
