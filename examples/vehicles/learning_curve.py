"""Measure accuracy by number of labels: frozen ImageNet layers with a new output, and the same network from scratch.

    python examples/vehicles/learning_curve.py [--seeds 5] [--scratch-seeds 2] [--scratch-epochs 20] [--out FILE.md]

Prints the table and writes it. The features are computed once and used for all sizes and seeds. Needs the reference
data in `shared/` beside the project (see examples/README.md).
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev

import torch

import regraft
from regraft.contracts.preparation import Preparation
from regraft.datasets.class_folder import open_class_folder
from regraft.datasets.labelled import Chosen, pick_per_class
from regraft.demo.mobilenet import mobilenet_v1_025
from regraft.examples import as_examples
from regraft.inputs import InputContract

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared"
FILES = HERE.parents[1] / "src/regraft/demo/files"
CONTRACT = Preparation(InputContract(size=(224, 224), mean=(0.5,), std=(0.5,)))
PER_CLASS = (20, 50, 100, 200)


def restored():
    """The network with its ImageNet layers and a new output for six classes; all layers but the output are frozen."""
    model = mobilenet_v1_025(num_classes=6)
    checkpoint = regraft.open_checkpoint(FILES / "mobilenet_v1_025")
    plan = regraft.plan_reuse(checkpoint, model, reuse="Conv2d_.*", rename={r"MobilenetV1/(.*)": r"\1"})
    regraft.apply_plan(plan, checkpoint, model)
    regraft.freeze(model, trainable="Logits")
    return model


def reused(trunk, features, test_features, count, seed):
    """Test accuracy of a new output trained on the features of `count` examples per class."""
    torch.manual_seed(seed)
    model = trunk.model
    model.Logits.reset_parameters()
    _, head = regraft.split(model, torch.zeros(2, 3, 224, 224))
    chosen = pick_per_class(features.labels, count, seed=seed)
    regraft.train(
        head,
        as_examples(features.gather(chosen)),
        solver=regraft.Steps(epochs=100, lr=3e-3, weight_decay=1e-2),
        seed=seed,
    )
    return regraft.evaluate(head, test_features).accuracy


def from_scratch(data, test, count, seed, epochs):
    """Test accuracy of the same network with new weights everywhere."""
    torch.manual_seed(seed)
    model = mobilenet_v1_025(num_classes=6)
    for layer in list(model.children())[:-1]:  # with torch's default, activations vanish in 27 layers without norms
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        torch.nn.init.zeros_(layer.bias)
    chosen = Chosen(data, pick_per_class(data.labels, count, seed=seed))
    inputs = as_examples(chosen).gather(torch.arange(len(chosen)))  # decoded once, to make the comparison fair
    regraft.train(model, inputs, solver=regraft.Steps(epochs=epochs, lr=1e-3), seed=seed)
    return regraft.evaluate(model, test).accuracy


def row(name, count, accuracies, seconds):
    """One line of the table."""
    spread = f" ± {stdev(accuracies) / len(accuracies) ** 0.5:.3f}" if len(accuracies) > 1 else ""
    return f"| {name} | {count} | {mean(accuracies):.3f}{spread} | {len(accuracies)} | {mean(seconds):.1f} |"


def main():
    """Measure all sizes and seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scratch-seeds", type=int, default=2)
    parser.add_argument("--scratch-epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "docs/vehicles.md")
    options = parser.parse_args()

    data = open_class_folder(SHARED / "data/vehicle_types/train", CONTRACT)
    test = open_class_folder(SHARED / "data/vehicle_types/test", CONTRACT, target=data.target)
    trunk, _ = regraft.split(restored(), torch.zeros(2, 3, 224, 224))
    began = time.perf_counter()
    features, test_features = (regraft.cache_features(trunk, part) for part in (data, test))
    feature_seconds = time.perf_counter() - began

    lines = [
        f"# Accuracy by number of labels, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"Written by `python examples/vehicles/learning_curve.py --seeds {options.seeds} --scratch-seeds "
        f"{options.scratch_seeds} --scratch-epochs {options.scratch_epochs}` on {torch.get_num_threads()} thread(s), "
        f"torch {torch.__version__}. Task: six types of vehicles, {len(test)} test images. Accuracy: mean ± standard "
        "error over the seeds, which choose the labels and the initial weights. Seconds: training and testing of one "
        f"run. The features of all {len(data) + len(test)} images took {feature_seconds:.0f} s, once.",
        "",
        "| network | labels per class | test accuracy | seeds | seconds |",
        "|---|---|---|---|---|",
    ]
    runs = [
        (
            "ImageNet layers frozen, new output",
            options.seeds,
            lambda count, seed: reused(trunk, features, test_features, count, seed),
        )
    ]
    name = f"from scratch, {options.scratch_epochs} epochs"
    epochs = options.scratch_epochs
    runs.append((name, options.scratch_seeds, lambda count, seed: from_scratch(data, test, count, seed, epochs)))
    for name, seeds, run in runs:
        for count in PER_CLASS:
            measured = [timed(run, count, seed) for seed in range(seeds)]
            lines.append(row(name, count, *zip(*measured, strict=True)))
            print(lines[-1], flush=True)
            options.out.write_text("\n".join(lines) + "\n")  # after each row: an interruption loses none


def timed(function, *arguments):
    """The function's result and its seconds."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


if __name__ == "__main__":
    main()
