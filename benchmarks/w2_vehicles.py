"""W2: six types of vehicle on MobileNetV1-0.25 at 224 pixels, from 1,200 JPEG files to a scored model in 30 epochs.

    python benchmarks/w2_vehicles.py

120 of the 1,200 images are held out and scored after each epoch. All contenders train the new output with AdamW,
learning rate 0.003, batch size 32. The time of regraft is that of the whole job: checkpoint, plan, features, training,
saved model, report. There is no warm-up run, since a job runs once. Of the usual loop one epoch is measured per round
and multiplied by 30, since its epochs are equal. torch imports its compiler with the first optimizer of a process; this
is done before the clock starts, since only the first contender would pay for it.
"""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
from harness import Contender, Goal, needs_shared, report, take_turns
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import regraft
from regraft.demo.mobilenet import mobilenet_v1_025

PHOTOS = needs_shared("data", "vehicle_types", "train")
CHECKPOINT = needs_shared("checkpoints", "mobilenet_v1_025")
GUIDE = "[transfer learning](https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html)"
EPOCHS, BATCH, RATE, CORES = 30, 32, 3e-3, os.cpu_count() or 1
JOB = f"""
[checkpoint]
path = "{CHECKPOINT}"
[model]
factory = "regraft.demo.mobilenet:mobilenet_v1_025"
args = {{num_classes = 6}}
[plan]
reuse = "Conv2d_.*"
rename = {{"MobilenetV1/(.*)" = '\\1'}}
[freeze]
trainable = "Logits"
[data]
train = "{PHOTOS}"
validation = 0.1
[input]
size = 224
mean = 0.5
std = 0.5
resize = "squash"
[cache]
folder = "features"
[train.steps]
epochs = {EPOCHS}
batch_size = {BATCH}
lr = {RATE}
[out]
folder = "run"
"""


class Photos(Dataset):
    """(image, class) of each file of folder/CLASS/, decoded on access."""

    def __init__(self, folder: Path) -> None:
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.files = [(path, classes.index(name)) for name in classes for path in sorted((folder / name).glob("*.jpg"))]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR), np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(127.5) - 1), label


DATA = Photos(PHOTOS)
HELD_OUT = list(range(0, len(DATA), 10))
TRAIN = [index for index in range(len(DATA)) if index % 10]
SECONDS: dict[str, float] = {}
ACCURACY: dict[str, float] = {}


def restored() -> nn.Module:
    """The network with its ImageNet layers and a new output layer."""
    torch.manual_seed(0)
    model = mobilenet_v1_025(num_classes=6)
    checkpoint = regraft.open_checkpoint(CHECKPOINT)
    plan = regraft.plan_reuse(checkpoint, model, reuse="Conv2d_.*", rename={r"MobilenetV1/(.*)": r"\1"})
    regraft.apply_plan(plan, checkpoint, model)
    return model


def whole_job(engine: str) -> float:
    """`regraft reuse job.toml` in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.toml"
        job.write_text(JOB.replace("[cache]", f'[cache]\nengine = "{engine}"'))
        began = time.perf_counter()
        run = regraft.reuse(job)
        seconds = time.perf_counter() - began
    SECONDS.update({f"{name} ({engine})": part for name, part in run.record.seconds.items()})
    ACCURACY[f"regraft, {engine} engine"] = run.record.scores["validation"].accuracy
    return seconds


def usual_loop() -> float:
    """One epoch of the tutorial's fixed feature extractor, multiplied by the number of epochs."""
    model = restored()
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.Logits.requires_grad_(True)
    descent = torch.optim.AdamW(model.Logits.parameters(), lr=RATE)
    train, held_out = (torch.utils.data.Subset(DATA, part) for part in (TRAIN, HELD_OUT))
    loaders = [DataLoader(part, BATCH, shuffle=part is train, num_workers=CORES) for part in (train, held_out)]
    began = time.perf_counter()
    for images, labels in loaders[0]:
        descent.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        descent.step()
    with torch.no_grad():
        sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loaders[1])
    return EPOCHS * (time.perf_counter() - began)


def sum_of_parts() -> float:
    """The minimal work: decode each file once, one forward pass, and the epochs of the head in a plain loop."""
    model = restored()
    labels = torch.tensor([label for _, label in DATA.files])
    images = torch.empty(len(DATA), 3, 224, 224)
    began = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        for index, (image, _) in enumerate(pool.map(DATA.__getitem__, range(len(DATA)))):
            images[index] = image
    head, model.Logits = model.Logits, nn.Identity()
    with torch.inference_mode():
        features = torch.cat([model(batch) for batch in images.split(64)])
    features, train = features.clone(), torch.tensor(TRAIN)
    descent = torch.optim.AdamW(head.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for indices in train[torch.randperm(len(train))].split(BATCH):
            descent.zero_grad()
            F.cross_entropy(head(features[indices]), labels[indices]).backward()
            descent.step()
        with torch.no_grad():
            right = head(features[HELD_OUT]).argmax(1) == labels[HELD_OUT]
    ACCURACY["decode + forward + head"] = right.double().mean().item()
    return time.perf_counter() - began


def main() -> None:
    contenders = [
        Contender("regraft, whole job", lambda: whole_job("exact")),
        Contender("usual frozen loop, 30 × one epoch", usual_loop, GUIDE),
        Contender("decode + forward + head", sum_of_parts),
        Contender("regraft, fast engine", lambda: whole_job("fast")),
    ]
    goals = [
        Goal(
            "≥ 20× faster than the usual uncached frozen loop",
            contenders[1].name, contenders[0].name, least=20,
            limit="30× the sum of its parts is the upper limit, so the second goal decides this one.",
        ),
        Goal(
            "≥ 35× faster than the usual uncached frozen loop",
            contenders[1].name, contenders[3].name, least=35,
            limit="with the frozen layers three times as fast, decoding 1,200 files and a job's fixed second count.",
        ),
        Goal(
            "at most 1.15× the sum of its parts", contenders[0].name, contenders[2].name, most=1.15,
            limit="by CPU time on 768 images (2026-11-22, two rounds on a busy machine) the job took 13.9 and "
            "13.5 s, its parts 11.3 and 12.7 s. About 1 s of a job is fixed: recording the model, proving "
            "the split, measuring the cost of the cache, reading examples twice, canary rows, proving the traced "
            "step, the report; the rest is hashing the inputs. It would help to keep the rows on which the split "
            "is proven.",
        ),
    ]  # fmt: skip
    title = "W2: vehicles, from 1,200 JPEG files to a scored model, 30 epochs"
    table = take_turns(title, "s", contenders, rounds=3, goals=goals, warm=False)
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in SECONDS.items())
    accuracy = ", ".join(f"{name} {value:.2f}" for name, value in ACCURACY.items())
    table.notes.append(
        f"Parts of the last round of the whole job: {parts}. Accuracy on the held-out images: {accuracy}."
    )
    table.notes.append("The usual loop is extrapolated: one epoch measured a round, times 30.")
    report([table])


if __name__ == "__main__":
    main()
