"""W4: computing the features of a resnet18 (224 pixels, random weights), compared with the bare `model(x)`.

    python benchmarks/w4_feature_pass.py

The bare model runs on tensors in memory, with the batch size and memory format that are fastest on this machine.
regraft starts from JPEG files and writes a folder store, so it must decode and write while the forward pass runs.

The fast engine is measured on tensors in memory, for resnet18 and for the MobileNetV1 of the vehicles: compiling, which
takes seconds, is not counted, since it is done once however many images follow.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from harness import Contender, Goal, Table, report, take_turns
from torch import Tensor, nn
from w2_vehicles import DATA

import regraft
import vision_stub  # noqa: F401  # before torchvision
from regraft.caches.fast_trunk import FastTrunk, installed_runtimes
from regraft.caches.options import Engine
from regraft.demo.mobilenet import mobilenet_v1_025

COUNT, BATCHES = 96, (8, 32)
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
PHOTOS = torch.utils.data.Subset(DATA, range(COUNT))
IMAGES = torch.stack([image for image, _ in PHOTOS])
GUIDE = "[inference mode](https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html)"
FEATURES: dict[str, Tensor] = {}


def network(memory_format: torch.memory_format) -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval().to(memory_format=memory_format)
    regraft.freeze(model, trainable="fc")
    return model


def bare(model: nn.Module, batch_size: int, memory_format: torch.memory_format, images: Tensor = IMAGES) -> float:
    images = images.contiguous(memory_format=memory_format)
    began = time.perf_counter()
    with torch.inference_mode():
        for batch in images.split(batch_size):
            model(batch)
    return time.perf_counter() - began


def fastest_of(models: dict[str, nn.Module]) -> tuple[int, str]:
    """The fastest batch size and memory format of the bare model: the better of two runs on a third of the images.

    models  by memory format
    """
    seconds = {
        (size, name): min(bare(model, size, FORMATS[name], IMAGES[: COUNT // 3]) for _ in range(2))
        for size in BATCHES
        for name, model in models.items()
    }
    return min(seconds, key=seconds.__getitem__)


def decoding() -> float:
    """Decoding the files one after the other."""
    began = time.perf_counter()
    for index in range(COUNT):
        PHOTOS[index]
    return time.perf_counter() - began


def feature_pass(trunk: Callable, batch_size: int, compute: str) -> float:
    """Computing the features from the files into a folder store."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        features = regraft.cache_features(trunk, PHOTOS, folder, batch_size=batch_size, engine=Engine(compute))
        seconds = time.perf_counter() - began
        (FEATURES[compute],) = features.gather(torch.arange(COUNT))[0].values()
    return seconds


def fast_table(name: str, model: nn.Module, least: float, reason: str) -> Table:
    """The fast engine's runtimes against the bare forward at its best batch size and format."""
    models = {name: copy.deepcopy(model).to(memory_format=layout) for name, layout in FORMATS.items()}
    batch_size, layout = fastest_of(models)
    contenders = [Contender("model(x)", lambda: bare(models[layout], batch_size, FORMATS[layout]), GUIDE)]
    trunk, _ = regraft.split(model, IMAGES[:2])
    differences = {}
    for runtime in installed_runtimes(torch.device("cpu")):
        fast = FastTrunk(trunk, runtime, batch_size)
        differences[runtime] = fast.compile(IMAGES[:batch_size])
        contenders.append(Contender(runtime, lambda fast=fast: features_in_memory(fast, batch_size)))
    goals = [Goal(f"≥ {least} of the bare throughput", "model(x)", "openvino", least=least, limit=reason)]
    table = take_turns(f"W4: fast engine, {name}, {COUNT} images in memory", "s", contenders, rounds=5, goals=goals)
    apart = ", ".join(f"{runtime} {difference:.1g}" for runtime, difference in differences.items())
    table.notes.append(
        f"Bare model: batch size {batch_size}, {layout}. Largest difference relative to the row: {apart}."
    )
    return table


def features_in_memory(trunk: FastTrunk, batch_size: int) -> float:
    """Computing the features of the decoded images."""
    began = time.perf_counter()
    regraft.cache_features(trunk, (IMAGES, torch.zeros(COUNT)), batch_size=batch_size)
    return time.perf_counter() - began


def reduced_precision() -> bool:
    """Whether this processor has bfloat16 instructions."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def main() -> None:
    batch_size, name = fastest_of({name: network(memory_format) for name, memory_format in FORMATS.items()})
    model = network(FORMATS[name])
    trunk, _ = regraft.split(model, IMAGES[:2])
    contenders = [
        Contender("model(x)", lambda: bare(model, batch_size, FORMATS[name]), GUIDE),
        Contender("regraft", lambda: feature_pass(trunk, batch_size, "float32")),
        Contender("decoding alone, one thread", decoding),
    ]
    if reduced_precision():
        contenders.append(Contender("regraft, bfloat16", lambda: feature_pass(trunk, batch_size, "bfloat16")))
    goals = [
        Goal("≥ 0.95 of the bare throughput", "model(x)", "regraft", least=0.95,
             limit="decoding needs CPU time too. It runs beside the forward pass only if a core is free, and the first "
             "batch must always be decoded first. The canary rows and the hashes of the inputs add to it."),
    ]  # fmt: skip
    title = f"W4: feature pass of resnet18, {COUNT} JPEG files at 224 pixels"
    table = take_turns(title, "s", contenders, rounds=5, goals=goals)
    threads = torch.get_num_threads()
    table.notes.append(f"Fastest bare model: batch size {batch_size} of {BATCHES}, {name}. Torch threads: {threads}.")
    if reduced_precision():
        gain, low, high = table.ratio(Goal("", "regraft", "regraft, bfloat16"))
        exact, reduced = FEATURES["float32"], FEATURES["bfloat16"].float()
        error = ((exact - reduced).norm() / exact.norm()).item()
        table.notes.append(
            f"bfloat16 arithmetic is {gain:.2f}× as fast ({low:.2f} – {high:.2f}); the features' error is {error:.1e}, "
            "relative to their length."
        )
    else:
        table.notes.append("bfloat16 not measured: this processor has no bfloat16 instructions.")
    reason = (
        "the gain is that of the runtime on this processor. An image of MobileNetV1-0.25 (0.08 · 10⁹ operations) takes "
        "OpenVINO 1.24 to 1.44 ms of one core, ONNX Runtime 1.5 to 2.1 ms, PyTorch channels-last 1.7 to 2.9 ms and "
        "PyTorch contiguous 4.4 ms: the gain is 3.3× against the contiguous forward."
    )
    mobilenet = mobilenet_v1_025(num_classes=6).eval()
    regraft.freeze(mobilenet, trainable="Logits")
    report([
        table,
        fast_table("resnet18", network(torch.contiguous_format), 1.25, reason),
        fast_table("MobileNetV1", mobilenet, 2.5, reason),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
