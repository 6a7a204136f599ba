"""Restore networks into models with other layer names, by structure and without a rename rule; writes docs/twins.md.

    make twins      writes Keras' networks (benchmarks/twins_keras.py, in an environment of its own), then runs this

Each network has random weights and random batch-norm statistics, so only the right assignment of all arrays gives its
logits. Where the two models differ in a setting (eps, padding, strides, a bias, a pooling), the plan reports the
difference and adopts it. The rows are those of `plan_reuse(checkpoint, model, match="structure", adopt=".*")`; only
`apply_plan` changes the model.
"""

import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import vision_stub  # noqa: F401  # before torchvision is imported
from regraft.arrays import Checkpoint
from regraft.errors import RegraftError
from regraft.jobs.factories import model_by_spec
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan
from regraft.plans.rows import RequirementRow
from regraft.reading import open_checkpoint

TWINS: dict[str, tuple[str, dict[str, object]]] = {
    "ResNet50": ("torchvision:resnet50", {}),
    "ResNet101": ("torchvision:resnet101", {}),
    "ResNet152": ("torchvision:resnet152", {}),
    "ResNet50V2": ("timm:resnetv2_50", {}),
    "ResNet101V2": ("timm:resnetv2_101", {}),
    "ResNet152V2": ("timm:resnetv2_152", {}),
    "VGG16": ("torchvision:vgg16", {}),
    "VGG19": ("torchvision:vgg19", {}),
    "DenseNet121": ("torchvision:densenet121", {}),
    "DenseNet169": ("torchvision:densenet169", {}),
    "DenseNet201": ("torchvision:densenet201", {}),
    "MobileNet": ("timm:mobilenetv1_100", {}),
    "MobileNetV2": ("torchvision:mobilenet_v2", {}),
    "MobileNetV3Small": ("torchvision:mobilenet_v3_small", {}),
    "MobileNetV3Large": ("torchvision:mobilenet_v3_large", {}),
    "InceptionV3": ("torchvision:inception_v3", {"aux_logits": False, "init_weights": False}),
    "InceptionResNetV2": ("timm:inception_resnet_v2", {}),
    "Xception": ("timm:legacy_xception", {}),
    "EfficientNetB0": ("timm:tf_efficientnet_b0", {}),
    "EfficientNetB1": ("timm:tf_efficientnet_b1", {}),
    "EfficientNetV2B0": ("timm:tf_efficientnetv2_b0", {}),
    "EfficientNetV2S": ("timm:tf_efficientnetv2_s", {}),
    "ConvNeXtTiny": ("torchvision:convnext_tiny", {}),
    "ConvNeXtSmall": ("timm:convnext_small", {}),
}


# Exported by torch.onnx (batch-norms folded, names lost) and matched with the models of timm.
EXPORTED = {
    "resnet18": "timm:resnet18",
    "mobilenet_v2": "timm:mobilenetv2_100",
    "densenet121": "timm:densenet121",
    "efficientnet_b0": "timm:efficientnet_b0",
    "convnext_tiny": "timm:convnext_tiny",
}


@dataclass(frozen=True)
class Outcome:
    """One line of the table. wrong: reused arrays of a plan without problems whose logits differ."""

    name: str
    twin: str
    layers: str
    arrays: int
    reused: int
    ambiguous: int
    other: int
    adopted: str
    error: float
    seconds: float

    @property
    def is_complete(self) -> bool:
        return not self.ambiguous and not self.other and self.error <= TOLERANCE

    @property
    def wrong(self) -> int:
        return 0 if self.error <= TOLERANCE or self.ambiguous or self.other else self.reused


TOLERANCE = 1e-3  # of the largest logit: float32 through up to 200 layers, other orders of sums
HEAD = (
    "| file | twin | layers | arrays reused | ambiguous | other problems | adopted settings | logits differ by | time |"
    "\n|---|---|---|---|---|---|---|---|---|"
)


def adopting(checkpoint: Checkpoint, model: nn.Module) -> tuple[Plan, Counter[str]]:
    """The plan that adopts every difference it can, and the number of differences of each kind."""
    plan = plan_reuse(checkpoint, model, match="structure")
    changes: Counter[str] = Counter()
    if any(row.is_problem for row in plan.requirements):
        plan = plan_reuse(checkpoint, model, match="structure", adopt=".*")
        changes.update(_word(row) for row in plan.adopted if row.attribute != "momentum")
    changes["bias folded into norm"] = sum(row.status == "adapted" for row in plan.rows)
    changes["norm was folded"] = sum("has this norm folded" in row.note for row in plan.rows) // 4
    changes["flattened map"] = sum("flattened map" in row.work() for row in plan.rows)
    return plan, changes


def _word(row: RequirementRow) -> str:
    """The kind of difference, in one word."""
    return "pooling" if "stride" in str(row.required) else row.attribute


def compare(path: Path, golden: Path, factory: str, arguments: dict[str, object]) -> Outcome:
    """Plan, apply, run.

    golden   an .npz with an input x, (n, h, w, c) for Keras, and the logits y
    """
    model = model_by_spec(factory, arguments).eval()
    checkpoint = open_checkpoint(path)
    start = process_time()
    plan, changes = adopting(checkpoint, model)
    seconds = process_time() - start
    recorded = np.load(golden)
    x = recorded["x"] if path.suffix == ".onnx" else recorded["x"].transpose(0, 3, 1, 2).copy()
    error = float("inf")
    if not plan.problems:
        apply_plan(plan, checkpoint, model)
        with torch.no_grad():
            logits = model(torch.tensor(x)).numpy()
        error = float(np.abs(logits - recorded["y"]).max() / np.abs(recorded["y"]).max())
    problems = Counter(row.status for row in plan.problems)
    return Outcome(
        name=path.name,
        twin=factory.replace(":", " "),
        layers=plan.notes[-1].split(": ")[1].split(" layers")[0],
        arrays=sum(row.target is not None and not row.target.endswith("num_batches_tracked") for row in plan.rows),
        reused=sum(not (row.target or "").endswith("num_batches_tracked") for row in plan.reused),
        ambiguous=problems["ambiguous"],
        other=sum(problems.values()) - problems["ambiguous"],
        adopted=", ".join(f"{word} ×{count}" for word, count in changes.items() if count) or "nothing",
        error=error,
        seconds=seconds,
    )


def export(name: str, folder: Path) -> Path:
    """Write NAME.onnx of torchvision's network with other weights and statistics, and NAME.npz, unless they exist."""
    path = folder / f"{name}.onnx"
    if not path.is_file():
        generator = torch.Generator().manual_seed(0)
        model = model_by_spec(f"torchvision:{name}", {}).eval()
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.numel() == max(tensor.shape):  # equal vectors are exported once
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator).abs() + 0.8)
        x = torch.randn(2, 3, 224, 224, generator=generator)
        with torch.no_grad():
            np.savez(folder / f"{name}.npz", x=x.numpy(), y=model(x).numpy())
            with warnings.catch_warnings(action="ignore"):  # a warning about the newer exporter, which needs onnxscript
                torch.onnx.export(model, (x,), str(path), dynamo=False)
    return path


def line(outcome: Outcome) -> str:
    """One line of the table."""
    return (
        f"| {outcome.name} | {outcome.twin} | {outcome.layers} | {outcome.reused} of {outcome.arrays} | "
        f"{outcome.ambiguous} | {outcome.other} | {outcome.adopted} | {outcome.error:.1e} | {outcome.seconds:.1f} s |"
    )


def page(outcomes: list[Outcome]) -> str:
    """docs/twins.md."""
    complete = sum(outcome.is_complete for outcome in outcomes)
    wrong = sum(outcome.wrong for outcome in outcomes)
    return "\n".join(
        [
            "# Twins: the same architecture with other layer names",
            "",
            __doc__.strip().split("\n\n", 2)[2] if __doc__ else "",
            "",
            f"{complete} of {len(outcomes)} complete, {wrong} arrays wrong. Written by benchmarks/twins.py, "
            f"{date.today()}, torch {torch.__version__}.",
            "The difference is relative to the largest logit. The time is CPU time of the plan.",
            "",
            HEAD,
            *map(line, outcomes),
            "",
        ]
    )


def main(folder: Path, names: list[str], out: Path | None) -> None:
    """Print the table line by line; write it to `out` as a page."""
    outcomes = []
    print(HEAD)
    for name in names or [*TWINS, *EXPORTED]:
        paths = [export(name, folder)] if name in EXPORTED else [folder / f"{name}{end}" for end in (".keras", ".h5")]
        factory, arguments = (EXPORTED[name], {}) if name in EXPORTED else TWINS[name]
        for path in paths:
            outcomes.append(compare(path, folder / f"{name}.npz", factory, arguments))
            print(line(outcomes[-1]), flush=True)
    if out is not None:
        out.write_text(page(outcomes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[2:]
    try:
        main(Path(sys.argv[1]), chosen, None if chosen else Path(__file__).resolve().parents[1] / "docs" / "twins.md")
    except RegraftError as error:
        sys.exit(str(error))
