"""The examples of the depth benchmark: digits of two pens and photographs, as grey 28 × 28 or RGB 96 × 96."""

import gzip
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from harness import SHARED
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

MOST_TESTS = 1500


@dataclass(frozen=True)
class Task:
    """Examples to draw from and to test on: images (count, channels, height, width) from 0 to 1, class numbers."""

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.labels.max()) + 1

    def draw(self, per_class: int, seed: int) -> Tensor:
        """Indices of so many random examples of each class."""
        generator = torch.Generator().manual_seed(1000 + seed)
        chosen = []
        for label in range(self.classes):
            members = (self.labels == label).nonzero().flatten()
            chosen.append(members[torch.randperm(len(members), generator=generator)[:per_class]])
        return torch.cat(chosen)


@cache
def mnist() -> tuple[Tensor, Tensor]:
    """All 70,000 images (count, 1, 28, 28) and their digits; the last 10,000 are for tests."""
    folder = SHARED / "data" / "mnist"

    def array(name: str) -> np.ndarray:
        raw = gzip.decompress((folder / name).read_bytes())
        shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)

    images = [array(f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [array(f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    pixels = torch.from_numpy(np.concatenate(images)).float()[:, None] / 255
    return pixels, torch.from_numpy(np.concatenate(labels)).long()


@cache
def photographs(size: int, channels: int) -> tuple[Tensor, Tensor, int]:
    """Photographs of vehicles of six kinds, their classes, and how many of them are not for tests."""
    folder = SHARED / "data" / "vehicle_types"
    images, labels, counts = [], [], []
    for part in ("train", "test"):
        for label, kind in enumerate(sorted(path.name for path in (folder / part).iterdir())):
            for path in sorted((folder / part / kind).iterdir()):
                image = Image.open(path).convert("L" if channels == 1 else "RGB")
                images.append(np.atleast_3d(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))))
                labels.append(label)
        counts.append(len(labels))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(labels), counts[0]


def _some_digits(digits: range, change: str = "") -> tuple[Tensor, Tensor, Tensor]:
    """MNIST images of these digits, changed, and which are for tests."""
    images, labels = mnist()
    kept = (labels >= digits.start) & (labels < digits.stop)
    tests = (torch.arange(len(labels)) >= 60000)[kept]
    images, labels = images[kept], labels[kept] - digits.start
    changes = {"up": lambda x: x.flip(2, 3), "inverted": lambda x: 1 - x, "turned": lambda x: x.transpose(2, 3)}
    images = changes[change](images) if change in changes else images
    if change == "random":
        labels = torch.randint(5, labels.shape, generator=torch.Generator().manual_seed(7))
    return images, labels, tests


def _small_digits() -> tuple[Tensor, Tensor, Tensor]:
    """scikit-learn's digits of 8 × 8, enlarged and framed as MNIST's are; 70 of each class are not for tests."""
    data = load_digits()
    pixels = [Image.fromarray((image * 15.9).astype(np.uint8)).resize((20, 20), Image.Resampling.BILINEAR)
              for image in data.images]  # fmt: skip
    images = torch.nn.functional.pad(torch.from_numpy(np.stack([np.asarray(p) for p in pixels])).float() / 255, [4] * 4)
    labels = torch.from_numpy(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order][:, None], labels[order]
    tests = torch.ones(len(labels), dtype=torch.bool)
    for label in range(10):
        tests[(labels == label).nonzero().flatten()[:70]] = False
    return images, labels, tests


@cache
def task(name: str, view: str) -> Task:
    """The task of this name, "grey" (28 × 28) or "rgb" (96 × 96)."""
    if name == "vehicles":
        images, labels, count = photographs(*((28, 1) if view == "grey" else (96, 3)))
        tests = torch.arange(len(labels)) >= count
    else:
        digits, _, change = name.partition("_")
        parts = {"mnist04": range(5), "mnist59": range(5, 10)}
        images, labels, tests = _some_digits(parts[digits], change) if digits in parts else _small_digits()
    chosen = tests.nonzero().flatten()
    generator = torch.Generator().manual_seed(5)
    chosen = chosen[torch.randperm(len(chosen), generator=generator)[: MOST_TESTS if view == "grey" else 600]]
    rest = (~tests).nonzero().flatten()
    rest = rest[torch.randperm(len(rest), generator=generator)[:4000]]
    picked = [images[rest], labels[rest], images[chosen], labels[chosen]]
    if view == "rgb":
        picked[0], picked[2] = _enlarged(picked[0]), _enlarged(picked[2])
    return Task(name, *picked)


def _enlarged(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[-1] == 96:
        return images
    parts = images.split(200)
    return torch.cat([torch.nn.functional.interpolate(part, (96, 96), mode="bilinear") for part in parts])
