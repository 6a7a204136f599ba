"""Networks of keras.applications into their torch twins by structure alone, with no rename: docs/twins.md.

    make twins      writes the networks (benchmarks/twins_keras.py, in an environment of its own), then runs this

Each network has random weights and random batch-norm statistics, so that nothing but the right array at the right
place gives its logits. Where the twin is another function (eps, padding, strides, a bias), the plan says so; this
program then does exactly what the plan's rows ask for, plans again, applies, and compares the logits.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import vision_stub  # noqa: F401  # before torchvision is imported
from regraft.arrays import Checkpoint
from regraft.errors import RegraftError
from regraft.factories import build_model
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.plan import Plan
from regraft.plans.rows import RequirementRow
from regraft.reading import open_checkpoint
from regraft.tf_layers import SameMaxPool2d, padded

TWINS: dict[str, tuple[str, dict[str, object]]] = {
    "ResNet50": ("torchvision:resnet50", {}),
    "ResNet101": ("torchvision:resnet101", {}),
    "ResNet152": ("torchvision:resnet152", {}),
    "ResNet50V2": ("timm:resnetv2_50", {}),
    "ResNet101V2": ("timm:resnetv2_101", {}),
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


def average_what_is_there(model: nn.Module) -> None:
    """InceptionV3: Keras' average does not count the padding; torchvision's does."""
    functional.avg_pool2d = partial(_AVG_POOL, count_include_pad=False)


def pool_as_same(model: nn.Module) -> None:
    """Xception: max-pooling pads one more at the end, as TensorFlow's "same" does."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, SameMaxPool2d(3, 2))


def stride_last(model: nn.Module) -> None:
    """ResNetV2: Keras halves the map in the last block of a stage, past which its shortcut is a pooling."""
    model.stem.pool = nn.Sequential(nn.ConstantPad2d(1, 0.0), nn.MaxPool2d(3, 2))  # type: ignore[union-attr]
    for stage in list(model.stages)[:-1]:  # type: ignore[arg-type]
        block = stage.blocks[-1]

        def forward(x: torch.Tensor, block: nn.Module = block) -> torch.Tensor:
            inner = block.conv2(block.norm2(block.conv1(block.norm1(x))))  # type: ignore[operator]
            return block.conv3(block.norm3(inner)) + nn.functional.max_pool2d(x, 1, 2)  # type: ignore[operator]

        block.forward = forward


# Functions without any array, which no plan can see.
BY_HAND: dict[str, Callable[[nn.Module], None]] = {
    "InceptionV3": average_what_is_there,
    "Xception": pool_as_same,
    "ResNet50V2": stride_last,
    "ResNet101V2": stride_last,
}
_AVG_POOL = functional.avg_pool2d
# Settings that only training reads, or that the plan sets by itself.
_SET_BY_PLAN = ("eps", "momentum")


@dataclass(frozen=True)
class Outcome:
    """One line of the table. wrong: reused, and yet the logits differ after everything that the plan asked for."""

    name: str
    twin: str
    layers: str
    arrays: int
    reused: int
    ambiguous: int
    other: int
    told: str
    error: float
    seconds: float

    @property
    def is_complete(self) -> bool:
        return not self.ambiguous and not self.other and self.error <= TOLERANCE

    @property
    def wrong(self) -> int:
        return 0 if self.error <= TOLERANCE else self.reused


TOLERANCE = 1e-3  # of the largest logit: float32 through up to 200 layers, other orders of sums
HEAD = (
    "| Keras | twin | layers | arrays reused | ambiguous | other problems | the plan told | logits differ by | plan |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def equalised(model: nn.Module, rows: list[RequirementRow]) -> Counter[str]:
    """Do to the model what the rows of the plan ask for; how often each."""
    done: Counter[str] = Counter()
    for row in rows:
        parent, _, name = row.layer.rpartition(".")
        module = model.get_submodule(row.layer)
        if row.attribute == "padding":
            setattr(model.get_submodule(parent), name, padded(module, row.required))  # type: ignore[arg-type]
        elif row.attribute == "stride":
            module.stride = row.required  # type: ignore[assignment]
        elif row.attribute == "bias":
            module.bias = nn.Parameter(torch.zeros(module.weight.shape[0]))  # type: ignore[arg-type, index]
        elif row.attribute not in _SET_BY_PLAN:
            continue
        done[row.attribute] += 1
    return done


def planned(checkpoint: Checkpoint, model: nn.Module) -> Plan:
    """The plan by structure; eps is taken over where it differs."""
    first = plan_reuse(checkpoint, model, match="structure")
    differs = any(row.is_problem and row.attribute == "eps" for row in first.requirements)
    return plan_reuse(checkpoint, model, match="structure", adopt=r"(.*\.)?eps") if differs else first


def compare(name: str, folder: Path, suffix: str) -> Outcome:
    """Plan, do what the plan asks for, plan again, apply, run."""
    factory, arguments = TWINS[name]
    model = build_model(factory, arguments).eval()
    checkpoint = open_checkpoint(folder / f"{name}{suffix}")
    start = perf_counter()
    first = plan_reuse(checkpoint, model, match="structure")
    seconds = perf_counter() - start
    told = equalised(model, [row for row in first.requirements if row.is_problem])
    told["bias folded into norm"] = sum(row.status == "adapted" for row in first.rows)
    told["flattened map"] = sum("flattened map" in row.work() for row in first.rows)
    plan = planned(checkpoint, model)
    if name in BY_HAND:
        BY_HAND[name](model)
        told["by hand: pooling"] = 1
    golden = np.load(folder / f"{name}.npz")
    error = float("inf")
    if not plan.problems:
        apply_plan(plan, checkpoint, model)
        with torch.no_grad():
            logits = model(torch.tensor(golden["x"].transpose(0, 3, 1, 2).copy())).numpy()
        functional.avg_pool2d = _AVG_POOL
        error = float(np.abs(logits - golden["y"]).max() / np.abs(golden["y"]).max())
    problems = Counter(row.status for row in plan.problems)
    return Outcome(
        name=f"{name}{suffix}",
        twin=factory.replace("torchvision:", "torchvision ").replace("timm:", "timm "),
        layers=first.notes[-1].split(": ")[1].split(" layers")[0],
        arrays=sum(row.target is not None and not row.target.endswith("num_batches_tracked") for row in plan.rows),
        reused=len(plan.reused),
        ambiguous=problems["ambiguous"],
        other=sum(problems.values()) - problems["ambiguous"],
        told=", ".join(f"{word} ×{count}" for word, count in told.items() if count) or "nothing",
        error=error,
        seconds=seconds,
    )


def line(outcome: Outcome) -> str:
    """One line of the table."""
    return (
        f"| {outcome.name} | {outcome.twin} | {outcome.layers} | {outcome.reused} of {outcome.arrays} | "
        f"{outcome.ambiguous} | {outcome.other} | {outcome.told} | {outcome.error:.1e} | {outcome.seconds:.1f} s |"
    )


def page(outcomes: list[Outcome]) -> str:
    """docs/twins.md."""
    complete = sum(outcome.is_complete for outcome in outcomes)
    by_hand = sum("by hand" in outcome.told for outcome in outcomes)
    wrong = sum(outcome.wrong for outcome in outcomes)
    return "\n".join(
        [
            "# Twins: the same architecture under other names",
            "",
            __doc__.strip().split("\n\n", 2)[2] if __doc__ else "",
            "",
            f"{complete} of {len(outcomes)} complete, {wrong} arrays wrong; {by_hand} of them only after a change by",
            "hand that no plan can tell: pooling, and in ResNetV2 the place of the strided block. Written by",
            f"benchmarks/twins.py, {date.today()}, torch {torch.__version__}. The difference is relative to the "
            "largest logit.",
            "",
            HEAD,
            *map(line, outcomes),
            "",
        ]
    )


def main(folder: Path, names: list[str], out: Path | None) -> None:
    """The table, line by line as it comes; to `out` as a page."""
    outcomes = []
    print(HEAD)
    for name in names or list(TWINS):
        for suffix in (".keras", ".h5"):
            outcomes.append(compare(name, folder, suffix))
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
