"""The source networks of the depth benchmark: checkpoints of ../shared, and small networks that are trained here."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from depth_data import mnist, task
from harness import SHARED
from torch import Tensor, nn

import regraft
from regraft.demo.mobilenet import mobilenet_v1_025

BUILD = Path(__file__).resolve().parents[1] / "build" / "depth"
STEPS = {"mlp": 1500, "cnn": 500, "resnet": 400, "vit": 150}


class Staged(nn.Module):
    """Stages in a row and a linear head on the mean over positions.

    tokens  whether the stages give (rows, positions, channels)
    """

    def __init__(self, stages: list[nn.Module], width: int, classes: int, *, tokens: bool = False) -> None:
        super().__init__()
        self.stages, self.tokens, self.fc = nn.Sequential(*stages), tokens, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(x)
        if x.ndim > 2:
            x = x.mean(1) if self.tokens else x.mean((2, 3))
        return self.fc(x)


class Residual(nn.Module):
    """Two convolutions with batch norm around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm2(self.second(self.norm1(self.first(x)).relu())) + self.shortcut(x)).relu()


class Patches(nn.Module):
    """Patches of 4 × 4 as tokens, with learnt positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.positions = nn.Conv2d(1, width, 4, 4), nn.Parameter(0.02 * torch.randn(49, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).transpose(1, 2) + self.positions


def mlp(classes: int) -> Staged:
    """Five hidden layers of 100."""
    sizes = [784] + [100] * 5
    stages: list[nn.Module] = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    stages[0].insert(0, nn.Flatten())
    return Staged(stages, 100, classes)


def cnn(classes: int) -> Staged:
    """Six convolutions with batch norm."""
    widths = [1, 16, 16, 32, 32, 64, 64]
    stages = [
        nn.Sequential(nn.Conv2d(a, b, 3, 2 if number in (2, 4) else 1, 1), nn.BatchNorm2d(b), nn.ReLU())
        for number, (a, b) in enumerate(pairwise(widths))
    ]
    return Staged(stages, 64, classes)


def resnet(classes: int) -> Staged:
    """A convolution and five residual blocks."""
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 64, 1)]
    return Staged([stem, *blocks], 64, classes)


def vit(classes: int) -> Staged:
    """Patches and six encoder layers of width 48."""
    layers = [nn.TransformerEncoderLayer(48, 3, 96, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(6)]
    return Staged([Patches(48), *layers], 48, classes, tokens=True)


NETWORKS: dict[str, Callable[[int], Staged]] = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "vit": vit}


@dataclass(frozen=True)
class Source:
    """A source network.

    family   "mlp", "convolution" or "transformer"
    view     of the images that it takes, as `depth_data.task` has them
    targets  the tasks to which it is taken
    prepare  images from 0 to 1 → what the network takes
    """

    name: str
    family: str
    view: str
    targets: tuple[str, ...]
    prepare: Callable[[Tensor], Tensor] = lambda images: images
    is_control: bool = False


GREY = ("mnist59", "mnist59_inverted", "mnist04_up", "digits", "vehicles", "mnist59_random")
RGB = ("vehicles", "mnist59", "digits", "mnist59_random")
SOURCES = [
    Source("tf1_mnist04", "mlp", "grey", GREY),
    Source("tf1_mnist10", "mlp", "grey", GREY[1:]),
    Source("mlp_mnist04", "mlp", "grey", GREY),
    Source("mlp_rotations", "mlp", "grey", GREY),
    Source("cnn_mnist04", "convolution", "grey", GREY),
    Source("cnn_rotations", "convolution", "grey", GREY),
    Source("resnet_mnist10", "convolution", "grey", GREY[1:]),
    Source("resnet_vehicles", "convolution", "grey", (*GREY[:4], GREY[5])),
    Source("mobilenet", "convolution", "rgb", RGB, lambda images: 2 * images - 1),
    Source("vit_mnist04", "transformer", "grey", GREY),
    Source("vit_mnist10", "transformer", "grey", GREY[1:]),
    Source("vit_rotations", "transformer", "grey", GREY),
    Source("cnn_untrained", "convolution", "grey", GREY[:5], is_control=True),
    Source("vit_untrained", "transformer", "grey", GREY[:5], is_control=True),
]


def network_of(source: Source) -> nn.Module:
    """The source's network, in evaluation mode; trained when there is none yet."""
    kind, _, taught = source.name.partition("_")
    if source.name == "mobilenet":
        return _restored(
            mobilenet_v1_025(), SHARED / "checkpoints" / "mobilenet_v1_025", "Conv2d_.*", {r"MobilenetV1/(.*)": r"\1"}
        )
    if kind == "tf1":
        return _book_network(taught)
    torch.manual_seed(0)
    if taught == "untrained":
        return NETWORKS[kind](10).eval()
    images, labels = _lesson(taught)
    network, path = NETWORKS[kind](int(labels.max()) + 1), BUILD / f"{source.name}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path))
    else:
        _teach(network, images, labels, STEPS[kind], source.name)
        torch.save(network.state_dict(), path)
    return network.eval()


def _book_network(taught: str) -> Staged:
    """The two networks of the book's chapter, from their TensorFlow checkpoints, as stages."""
    sizes = {"mnist04": [784] + [90] * 5, "mnist10": [784, 300, 50, 50, 50, 50]}[taught]
    activation: Callable[[], nn.Module] = {"mnist04": lambda: nn.LeakyReLU(0.1), "mnist10": nn.ReLU}[taught]
    paths = {
        "mnist04": "tf1_v2_mnist0to4_5x90_leaky_adam/my_best_mnist_model_0_to_4",
        "mnist10": "tf1_v2_mnist10_sgd/my_model_final.ckpt",
    }
    stages: list[nn.Module] = [nn.Sequential(nn.Linear(a, b), activation()) for a, b in pairwise(sizes)]
    stages[0].insert(0, nn.Flatten())
    network = Staged(stages, sizes[-1], 5)
    rename = {r"hidden1/(.*)": r"stages.0.1/\1"} | {rf"hidden{n + 1}/(.*)": rf"stages.{n}.0/\1" for n in range(1, 5)}
    return _restored(network, SHARED / "checkpoints" / "mnist" / paths[taught], r"stages.*", rename)


def _restored(network: nn.Module, path: Path, reuse: str, rename: dict[str, str]) -> nn.Module:
    checkpoint = regraft.open_checkpoint(path)
    regraft.apply_plan(regraft.plan_reuse(checkpoint, network, reuse=reuse, rename=rename), checkpoint, network)
    return network.eval()


def _lesson(name: str) -> tuple[Tensor, Tensor]:
    """What a source of our own is taught: digits, photographs, or by how many right angles a digit is turned."""
    if name == "vehicles":
        photos = task("vehicles", "grey")
        return photos.images, photos.labels
    images, labels = mnist()
    images, labels = images[:20000], labels[:20000]
    if name == "rotations":
        turns = torch.arange(len(images)) % 4
        return torch.stack([image.rot90(int(n), (1, 2)) for image, n in zip(images, turns, strict=True)]), turns
    kept = labels < {"mnist04": 5, "mnist10": 10}[name]
    return images[kept], labels[kept]


def _teach(network: nn.Module, images: Tensor, labels: Tensor, steps: int, name: str) -> None:
    began = time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=generator)
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(f"{name}: loss {loss:.3f} after {steps} steps, {time.perf_counter() - began:.0f} s", flush=True)
