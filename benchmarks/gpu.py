"""Check regraft on a GPU and measure it against a plain PyTorch loop; writes docs/gpu.md. Made for ten minutes.

    python benchmarks/gpu.py                        on the GPU, writes the page
    python benchmarks/gpu.py --device cpu --quick   the same code with tiny networks; prints, writes nothing

It needs torch and regraft alone: its networks (a resnet18 and a small vision transformer) stand here, with random
weights. Checks come first; a check that fails is a row of the page, and the exit code is 1.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regraft
from regraft.caches.fast_trunk import FastTrunk, largest_difference
from regraft.caches.options import Engine
from regraft.splitting import Head, Trunk

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"


@dataclass(frozen=True)
class Sizes:
    """How large everything is: images, their pixels, the batch, epochs of the whole job, width of the networks.

    rounds and steps: how often each contender is measured, and training steps in one measurement.
    """

    images: int = 4096
    pixels: int = 224
    batch: int = 256
    epochs: int = 10
    width: int = 64
    rounds: int = 5
    steps: int = 20


QUICK = Sizes(images=8, pixels=28, batch=4, epochs=1, width=8, rounds=1, steps=2)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(given, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        same = stride == 1 and given == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(given, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


def resnet(sizes: Sizes) -> nn.Module:
    """A resnet18; its last stage and its output are trained."""
    torch.manual_seed(0)
    width, stages = sizes.width, list[nn.Module]()
    for number in range(4):
        given = width if number == 0 else width << (number - 1)
        stages.append(nn.Sequential(Block(given, width << number, 1 + (number > 0)), Block(*[width << number] * 2, 1)))
    stem = nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    )
    top = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width << 3, 10))
    model = nn.Sequential(stem, *stages, top)
    regraft.freeze(model, trainable="4|5")
    return model


class Layer(nn.Module):
    """A transformer layer with six heads, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm1(x)).unflatten(2, (3, 6, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads.unbind())
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A vision transformer of six layers; the last one and the output are trained."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, patch = 6 * sizes.width, sizes.pixels // 14
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, (sizes.pixels // patch) ** 2, width) / 50)
        self.layers = nn.ModuleList(Layer(width) for _ in range(6))
        self.output = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            hidden = layer(hidden)
        return self.output(hidden.mean(1))


def transformer(sizes: Sizes) -> nn.Module:
    torch.manual_seed(0)
    model = Transformer(sizes)
    regraft.freeze(model, trainable=r"layers\.5|output")
    return model


NETWORKS: dict[str, Callable[[Sizes], nn.Module]] = {"resnet18": resnet, "transformer": transformer}


class Bench:
    """The data and what is done with a network on a device."""

    def __init__(self, device: str, sizes: Sizes) -> None:
        self.device, self.sizes = torch.device(device), sizes
        torch.manual_seed(0)
        self.images = torch.randn(sizes.images, 3, sizes.pixels, sizes.pixels)
        self.labels = torch.randint(0, 10, (sizes.images,))

    def network(self, name: str) -> nn.Module:
        """The network on the device, in evaluation mode."""
        return NETWORKS[name](self.sizes).to(self.device).eval()

    def split(self, model: nn.Module) -> tuple[Trunk, Head]:
        """Its trunk and head."""
        return regraft.split(model, self.images[:2].to(self.device))

    def batch(self) -> Tensor:
        """The first batch, on the device."""
        return self.images[: self.sizes.batch].to(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Seconds of a run, the work of the GPU included."""
        self.wait()
        began = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        """Until the GPU has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_mb(self, run: Callable[[], object]) -> float:
        """The most memory that tensors took on the GPU during a run; 0 on the CPU."""
        if self.device.type != "cuda":
            run()
            return 0.0
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / 1e6


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Matrix products and convolutions in TF32, or in full float32."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32" if on else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def check_identity(bench: Bench, name: str) -> str:
    """`head(trunk(x))` has the bits of `model(x)`, in float32, in TF32 and under autocast, training and evaluation."""
    model = bench.network(name)
    worst = 0.0
    for mode, context in {"float32": tf32(False), "TF32": tf32(True), "autocast": _autocast(bench)}.items():
        with context, torch.no_grad():
            trunk, head = bench.split(model)
            whole, parts = model(bench.batch()), head(trunk(bench.batch()))
            assert torch.equal(whole, parts), f"{mode}: outputs differ by {(whole - parts).abs().max():.3g}"
            worst = max(worst, trunk.cut.row_rounding)
    return f"equal in every bit; rows are rounded by their index by {worst:.1g} at most"


def _autocast(bench: Bench) -> torch.autocast:
    return torch.autocast(bench.device.type, torch.bfloat16)


def check_training(bench: Bench, name: str) -> str:
    """Training on cached features gives the losses of training the whole model in the same order."""
    losses = []
    data = bench.images[: 4 * bench.sizes.batch], bench.labels[: 4 * bench.sizes.batch]
    solver = regraft.Steps(epochs=2, lr=1e-2, optimizer="sgd", batch_size=bench.sizes.batch)
    for cached in (True, False):
        model = bench.network(name)
        trunk, head = bench.split(model)
        given = (head, regraft.cache_features(trunk, data, batch_size=bench.sizes.batch)) if cached else (model, data)
        losses.append(torch.tensor(regraft.train(*given, solver=solver, seed=1).train_loss))
    apart = float(((losses[0] - losses[1]).abs() / losses[1].abs()).max())
    # Features come from batches in another order; convolutions on a GPU choose their algorithm by the batch.
    assert apart <= 1e-3, f"losses differ by {apart:.3g} of their value"
    return f"losses differ by {apart:.1g} of their value at most"


def check_store(bench: Bench, name: str) -> str:
    """A store is read again without computing; TF32 and autocast have entries of their own; canaries pass."""
    model, batch = bench.network(name), bench.sizes.batch
    data = bench.images[: 2 * batch], bench.labels[: 2 * batch]
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        for context in (tf32(False), tf32(True), _autocast(bench)):
            with context:
                trunk, _ = bench.split(model)
                twice = [regraft.cache_features(trunk, data, folder, batch_size=batch).computed for _ in range(2)]
                counts.append(tuple(twice))
    rows = len(data[0])
    fresh = [(rows, 0)] * 3 if bench.device.type == "cuda" else [(rows, 0), (0, 0), (rows, 0)]  # the CPU has no TF32
    assert counts == fresh, f"rows computed, then computed again: {counts}, expected {fresh}"
    return f"{rows} rows computed once in float32, TF32 and autocast"


def check_saved(bench: Bench, name: str) -> str:
    """A model saved on the device and loaded into a new one gives the same outputs."""
    model, fresh = bench.network(name), bench.network(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    with tempfile.TemporaryDirectory() as folder:
        regraft.save(model, Path(folder) / "run")
        loaded = regraft.load(Path(folder) / "run", model=fresh).to(bench.device).eval()
    with torch.no_grad():
        assert torch.equal(model(bench.batch()), loaded(bench.batch())), "outputs differ"
    return "equal in every bit"


def check_fast(bench: Bench, name: str) -> str:
    """The fast engine's features are within 1e-5 of the exact ones."""
    with tf32(False):
        trunk, _ = bench.split(bench.network(name))
        fast = FastTrunk(trunk, "torchscript", bench.sizes.batch)
        fast.compile(bench.batch())
        return (
            f"differ by {largest_difference(trunk(bench.batch()), fast(bench.batch())):.1g} of the row's largest value"
        )


CHECKS = {
    "head(trunk(x)) is model(x)": check_identity,
    "cached training is uncached training": check_training,
    "stores, keys and canaries": check_store,
    "saved and loaded": check_saved,
    "fast engine": check_fast,
}


def measure_pass(bench: Bench, name: str) -> dict[str, Callable[[], object]]:
    """Computing features into memory, beside the bare forward on the same host tensors."""
    model = bench.network(name)
    trunk, _ = bench.split(model)
    data, batch = (bench.images, bench.labels), bench.sizes.batch

    def bare(memory_format: torch.memory_format, autocast: bool = False) -> None:
        with torch.inference_mode(), _autocast(bench) if autocast else nullcontext():
            for images in bench.images.split(batch):
                model(images.to(bench.device, memory_format=memory_format)).cpu()

    return {
        "model(x)": lambda: bare(torch.contiguous_format),
        "model(x), channels last": lambda: bare(torch.channels_last),
        "model(x), bfloat16": lambda: bare(torch.contiguous_format, True),
        "regraft": lambda: regraft.cache_features(trunk, data, batch_size=batch),
        "regraft, fast engine": lambda: regraft.cache_features(trunk, data, batch_size=batch, engine="fast"),
        "regraft, bfloat16": lambda: regraft.cache_features(trunk, data, batch_size=batch, engine=Engine("bfloat16")),
    }


def measure_step(bench: Bench, name: str) -> dict[str, Callable[[], object]]:
    """A training step of the head on features, beside one of the unsplit model."""
    model = bench.network(name)
    trunk, head = bench.split(model)
    batch, labels = bench.batch(), bench.labels[: bench.sizes.batch].to(bench.device)
    features = trunk(batch)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)

    def step(forward: Callable[[], Tensor]) -> None:
        for _ in range(bench.sizes.steps):
            optimizer.zero_grad()
            F.cross_entropy(forward(), labels).backward()
            optimizer.step()

    return {
        f"{bench.sizes.steps} steps of the head": lambda: step(lambda: head(features)),
        "of the model": lambda: step(lambda: model(batch)),
    }


def measure_job(bench: Bench, name: str) -> dict[str, Callable[[], object]]:
    """Features and training on them, beside a plain PyTorch loop over the whole frozen model."""
    data, sizes = (bench.images, bench.labels), bench.sizes
    solver = regraft.Steps(epochs=sizes.epochs, lr=1e-2, optimizer="sgd", batch_size=sizes.batch)

    def ours() -> None:
        trunk, head = bench.split(bench.network(name))
        regraft.train(head, regraft.cache_features(trunk, data, batch_size=sizes.batch), solver=solver)

    def plain() -> None:
        model = bench.network(name)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(sizes.epochs):
            for indices in torch.randperm(sizes.images).split(sizes.batch):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(data[0][indices].to(bench.device)), data[1][indices].to(bench.device))
                loss.backward()
                optimizer.step()

    return {"regraft, whole job": ours, f"plain loop, {sizes.epochs} epochs": plain}


MEASURES = {"feature pass": measure_pass, "training step": measure_step, "whole job": measure_job}


def check_rows(bench: Bench) -> list[tuple[str, str, str, bool]]:
    """(check, network, result, whether it holds)."""
    rows = []
    for title, check in CHECKS.items():
        for name in NETWORKS:
            try:
                rows.append((title, name, check(bench, name), True))
            except Exception as error:  # a failed check is a result, and the others still count
                rows.append((title, name, f"**{type(error).__name__}: {error}**".replace("\n", " "), False))
            print(*rows[-1][:3], sep=" | ", file=sys.stderr)
    return rows


def measure_rows(bench: Bench) -> Iterator[str]:
    """A row of the table for each contender: medians of rounds in turns, and the ratio to the first one."""
    for title, measure in MEASURES.items():
        for name in NETWORKS:
            runs = measure(bench, name)
            memory = {contender: bench.peak_mb(run) for contender, run in runs.items()}  # warms up, too
            rounds = 1 if title == "whole job" else bench.sizes.rounds
            samples = [{contender: bench.seconds(run) for contender, run in runs.items()} for _ in range(rounds)]
            first = next(iter(runs))
            for contender in runs:
                seconds = statistics.median(sample[contender] for sample in samples)
                ratio = statistics.median(sample[first] / sample[contender] for sample in samples)
                rate = f"{bench.sizes.images / seconds:,.0f}" if title == "feature pass" else ""
                cells = [title, name, contender, f"{seconds:.4g}", f"{ratio:.2f}", rate, f"{memory[contender]:.0f}"]
                yield f"| {' | '.join(cells)} |"


def page(bench: Bench, checks: list[tuple[str, str, str, bool]], rows: list[str]) -> str:
    """docs/gpu.md."""
    hardware = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    sizes = bench.sizes
    return "\n".join(
        [
            "# On a GPU",
            "",
            f"Measured {date.today()} on {hardware} with torch {torch.__version__} by `python benchmarks/gpu.py`:",
            f"{sizes.images:,} images of {sizes.pixels} pixels in host memory, batches of {sizes.batch}, float32 with",
            "TF32 off unless the row says otherwise, random weights. Medians of rounds in turns; *ratio*: how many",
            "times as fast as the first contender of its group; memory: the most that tensors took on the GPU.",
            "",
            "| check | network | result |",
            "|---|---|---|",
            *[f"| {title} | {name} | {result} |" for title, name, result, _ in checks],
            "",
            "| work | network | contender | s | ratio | images/s | GPU MB |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Check, measure, and write the page on a GPU. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks and data; nothing is written")
    arguments = parser.parse_args()
    bench = Bench(arguments.device, QUICK if arguments.quick else Sizes())
    checks = check_rows(bench)
    with tf32(False):
        text = page(bench, checks, list(measure_rows(bench)))
    print(text)
    if not arguments.quick:
        PAGE.write_text(text)
    return 0 if all(holds for *_, holds in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
