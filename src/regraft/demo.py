"""The main job on handwritten digits that ship with scikit-learn: four methods to learn a new task, side by side."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.caching import cache_features
from regraft.cuts.cut import Cut
from regraft.datasets.labelled import pick_per_class
from regraft.errors import DataError
from regraft.evaluating import evaluate
from regraft.foundation.files import all_entries, whole_folder
from regraft.foundation.progress import progress_bar
from regraft.freezing import freeze
from regraft.jobs.job import Job
from regraft.learning.solvers import Steps
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.reading import open_checkpoint
from regraft.recipe import Run, reuse
from regraft.reporting import write_report
from regraft.reports.record import Variant
from regraft.saving import foreign_entries
from regraft.splitting import split
from regraft.training import train

ORIGINAL, TRAIN, TEST, JOB = "digits_0_to_4.npz", "train.npz", "test.npz", "job.toml"
SEEDS = range(5)
LABELS_PER_CLASS = 10
EPOCHS, BATCH_SIZE = 60, 10

JOB_TEXT = f"""\
# Digits 5 to 9 from {LABELS_PER_CLASS} labels each, on layers that were trained on digits 0 to 4.
[checkpoint]
path = "{ORIGINAL}"                  # TensorFlow's names and axis orders
[model]
factory = "regraft.demo:digits_net"
[plan]
reuse = "conv[123]"
layout = "tensorflow"
[freeze]
upto = "conv2"
[data]
train = "{TRAIN}"
test = "{TEST}"
validation = 0
[train.steps]
epochs = {EPOCHS}
batch_size = {BATCH_SIZE}
lr = 1e-3
[out]
folder = "run"
"""


class DigitsNet(nn.Module):
    """Images (batch, 1, 8, 8) from 0 to 1 → logits (batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 128, 3, padding=1)
        self.conv3 = nn.Conv2d(128, 32, 3, padding=1)
        self.outputs = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Three convolutions, the maximum of each map, one dense layer."""
        maps = F.relu(self.conv1(images))
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)
        logits: Tensor = self.outputs(F.relu(self.conv3(maps)).amax((2, 3)))
        return logits


def digits_net() -> nn.Module:
    """The demo's network, for the job file."""
    return DigitsNet()


@dataclass(frozen=True)
class Demo:
    """What the demo measured.

    rows       the methods side by side, mean over the seeds
    same       whether cached and uncached ended in the same weights, for each seed
    run        the job's own run, for one seed
    tolerance  within which they are the same; 0.0: to the last bit. See `weight_tolerance`
    """

    folder: Path
    rows: tuple[Variant, ...]
    same: tuple[bool, ...]
    run: Run
    tolerance: float = 0.0

    def summary(self) -> str:
        """The result table and where to look next."""
        lines = [f"Digits 5 to 9 from {LABELS_PER_CLASS} labels each, {len(self.same)} seeds, mean ± standard error"]
        lines += [
            f"  {row.name:<34} accuracy {row.accuracy:.3f} ± {row.standard_error:.3f}   {row.seconds:.2f} s"
            for row in self.rows
        ]
        verdict = equality(self.tolerance) if all(self.same) else "NOT equal"
        lines.append(
            f"  cached and uncached weights after training: {verdict}, {sum(self.same)} of {len(self.same)} seeds"
        )
        lines.append("  These digits are easy enough from scratch; examples/vehicles shows a task where reuse decides.")
        lines.append(f"report: {self.folder / 'report.html'}")
        lines.append(f"next:   regraft predict {self.folder / 'run'} {self.folder / TEST}")
        return "\n".join(lines)


def run_demo(out: Path, *, overwrite: bool = False) -> Demo:
    """Train an original network on digits 0-4, store it in a foreign layout, reuse it by four methods for digits 5-9.

    Leaves a folder with the checkpoint, the data, the job file, the job's run folder and a report; whole or not at all.
    Raises SaveError when the folder exists and may not be replaced, DataError when scikit-learn is not installed.
    """
    with whole_folder(out, overwrite=overwrite, foreign=foreign_to_demo) as folder:
        images, labels = load_digits()
        save_in_tensorflow_layout(train_original(images, labels), folder / ORIGINAL)
        tolerance = weight_tolerance(split(lower_frozen(folder / ORIGINAL), images[:2])[0].cut)
        rows, same = compare(folder / ORIGINAL, images, labels, tolerance)
        chosen, rest = new_task(labels, seed=0)
        new_images, new_labels = images[labels >= 5].numpy(), labels[labels >= 5].numpy() - 5
        for name, indices in ((TRAIN, chosen), (TEST, rest)):
            np.savez(folder / name, x=new_images[indices], y=new_labels[indices], classes=list("56789"))
        (folder / JOB).write_text(JOB_TEXT, encoding="utf-8")
    try:
        run = reuse(Job.from_file(out / JOB))
        record = replace(run.record, title="regraft demo: digits 5 to 9 from few labels", comparison=rows)
        write_report(out / "report.html", record)
    except BaseException:
        shutil.rmtree(out)  # a part of the demo is no demo
        raise
    return Demo(out, rows, same, run, tolerance)


def foreign_to_demo(folder: Path) -> list[str]:
    """What a folder holds that no demo has."""
    own = {ORIGINAL, TRAIN, TEST, JOB, "report.html", "run"}
    others = [name for name in all_entries(folder) if name not in own]
    run = folder / "run"
    return others + ([f"run/{name}" for name in foreign_entries(run)] if run.is_dir() else ["no run of the demo"])


def load_digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 digits: images (count, 1, 8, 8) from 0 to 1, labels (count,)."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError("The demo's digits ship with scikit-learn: pip install 'regraft[sklearn]'") from error
    digits = datasets.load_digits()
    return torch.from_numpy(digits.images / 16).float().unsqueeze(1), torch.from_numpy(digits.target).long()


def train_original(images: Tensor, labels: Tensor) -> nn.Module:
    """The network that somebody else trained: all examples of digits 0-4."""
    torch.manual_seed(0)
    model = DigitsNet()
    train(model, (images[labels < 5], labels[labels < 5]), solver=Steps(epochs=15, batch_size=32))
    return model


def save_in_tensorflow_layout(model: nn.Module, path: Path) -> None:
    """The arrays under TensorFlow's names, in its axis orders: kernels (height, width, in, out) and (in, out)."""
    arrays: dict[str, np.ndarray] = {}
    layers: Any = model.named_children()
    for name, layer in layers:
        weight, bias = (parameter.detach().numpy() for parameter in (layer.weight, layer.bias))
        arrays[f"{name}/kernel"] = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        arrays[f"{name}/bias"] = bias
    np.savez(path, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes the names for its own options


def new_task(labels: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices among digits 5-9: few to train on, the others to test."""
    new = labels[labels >= 5] - 5
    chosen = pick_per_class(new, LABELS_PER_CLASS, seed=seed)
    rest = torch.ones(len(new), dtype=torch.bool)
    rest[chosen] = False
    return chosen, rest.nonzero().flatten()


def compare(
    checkpoint: Path, images: Tensor, labels: Tensor, tolerance: float
) -> tuple[tuple[Variant, ...], tuple[bool, ...]]:
    """The four methods for each seed: accuracy and seconds, and whether caching changed a weight beyond `tolerance`."""
    methods: Mapping[str, Callable[..., nn.Module]] = {
        "from scratch": from_scratch,
        "restored, all fine-tuned": fine_tuned,
        "restored, lower frozen, uncached": frozen_uncached,
        "restored, lower frozen, cached": frozen_cached,
    }
    accuracies: dict[str, list[float]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    same = []
    new_images, new_labels = images[labels >= 5], labels[labels >= 5] - 5
    with progress_bar("comparing", len(SEEDS) * len(methods)) as advance:
        for seed in SEEDS:
            chosen, rest = new_task(labels, seed=seed)
            models = {}
            for name, method in methods.items():
                torch.manual_seed(seed)
                began = time.perf_counter()
                models[name] = method(checkpoint, (new_images[chosen], new_labels[chosen]), seed)
                seconds[name].append(time.perf_counter() - began)
                score = evaluate(models[name], (new_images[rest], new_labels[rest]))
                accuracies[name].append(score.accuracy or 0.0)
                advance(note=name)
            same.append(have_same_weights(*list(models.values())[2:], tolerance=tolerance))
    rows = [
        Variant(
            name,
            accuracy=mean(points),
            standard_error=stdev(points) / len(points) ** 0.5,
            seconds=mean(seconds[name]),
            points=tuple(points),
        )
        for name, points in accuracies.items()
    ]
    note = f"weights of uncached training: {equality(tolerance)}" if all(same) else "differs"
    rows[-1] = replace(rows[-1], note=note)
    return tuple(rows), tuple(same)


def from_scratch(checkpoint: Path, examples: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """New initial weights everywhere."""
    model = DigitsNet()
    train(model, examples, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE), seed=seed)
    return model


def fine_tuned(checkpoint: Path, examples: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """All layers but the outputs restored; everything trained."""
    model = restored(checkpoint)
    train(model, examples, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE), seed=seed)
    return model


def frozen_uncached(checkpoint: Path, examples: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """The convolutions frozen, and computed anew in each epoch."""
    model = lower_frozen(checkpoint)
    train(model, examples, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE), seed=seed)
    return model


def frozen_cached(checkpoint: Path, examples: tuple[Tensor, Tensor], seed: int) -> nn.Module:
    """The convolutions frozen, and computed once."""
    model = lower_frozen(checkpoint)
    trunk, head = split(model, examples[0][:2])
    train(
        head,
        cache_features(trunk, examples, batch_size=BATCH_SIZE),
        solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE),
        seed=seed,
    )
    return model


def restored(checkpoint: Path) -> nn.Module:
    """The new network with its lower layers from the checkpoint."""
    model = DigitsNet()
    opened = open_checkpoint(checkpoint)
    apply_plan(plan_reuse(opened, model, reuse="conv[123]", layout="tensorflow"), opened, model)
    return model


def lower_frozen(checkpoint: Path) -> nn.Module:
    """The restored network with its first two convolutions frozen."""
    model = restored(checkpoint)
    freeze(model, upto="conv2")
    return model


def weight_tolerance(cut: Cut) -> float:
    """How far cached and uncached weights may differ, relative to an array's largest; 0.0: not by a bit.

    Where rows are rounded by their index in the batch, the gradients of each step differ by about as much as the
    features do, and the differences of all steps add up. (Measured: features changed by 1e-7 of themselves moved the
    weights by 1e-6 in 300 steps; this allows 3e-4.)
    """
    return EPOCHS * (5 * LABELS_PER_CLASS // BATCH_SIZE) * cut.row_tolerance


def have_same_weights(first: nn.Module, second: nn.Module, *, tolerance: float = 0.0) -> bool:
    """Whether all arrays are equal: to the last bit, or within a tolerance relative to the array's largest value."""
    others: dict[str, Tensor] = second.state_dict()
    return all(
        torch.equal(tensor, others[name])
        or float((tensor - others[name]).abs().max()) <= tolerance * float(tensor.abs().max())
        for name, tensor in first.state_dict().items()
    )


def equality(tolerance: float) -> str:
    """What equal means, in words."""
    if not tolerance:
        return "equal to the last bit"
    return f"equal within {tolerance:.1g} (this processor rounds a row by its index in the batch)"
