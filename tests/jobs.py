"""A small whole job on disk: a checkpoint in TensorFlow's layout, a factory, image folders, a job.toml."""

from pathlib import Path

import numpy as np
from PIL import Image

FACTORY = """
from torch import nn


def net(classes=2):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )
"""
JOB = """
[checkpoint]
path = "theirs.npz"
[model]
factory = "net.py:net"
[plan]
reuse = "[01]"
layout = "tensorflow"
[freeze]
layers = "[01]"
[data]
train = "train"
test = "test"
validation = 0.25
[input]
size = 8
[cache]
use = true
[train.steps]
epochs = 3
batch_size = 4
lr = 0.05
[out]
folder = "run"
"""


def write_job(folder: Path) -> Path:
    """The job's files in `folder`; returns the path of job.toml."""
    random = np.random.default_rng(0)
    arrays = {
        # Kernels in sixteenths and pixels of 0 or 1: the convolution's sums are exact, whatever their order.
        "0/kernel": (16 * random.normal(size=(3, 3, 3, 4))).round() / 16,
        "0/bias": (16 * random.normal(size=4)).round() / 16,
        "1/gamma": random.uniform(1, 2, 4),
        "1/beta": random.normal(size=4),
        "1/moving_mean": random.normal(size=4),
        "1/moving_variance": random.uniform(1, 2, 4),
        "5/kernel": random.normal(size=(4, 7)),
        "5/bias": random.normal(size=7),
    }
    np.savez(folder / "theirs.npz", **{name: array.astype(np.float32) for name, array in arrays.items()})
    (folder / "net.py").write_text(FACTORY)
    for part in ("train", "test"):
        for index, (name, shade) in enumerate((("dark", 40), ("light", 200))):
            (folder / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = np.where(random.random((8, 8, 3)) * 255 < shade, 255, 0).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}{number}.png")
    (folder / "job.toml").write_text(JOB)
    return folder / "job.toml"
