"""Runs the demo: three methods to learn a new task side by side, then the same as a job with a report."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from regraft.advising import advise
from regraft.caching import cache_features
from regraft.contracts.preparation import Preparation
from regraft.cuts.cut import Cut
from regraft.datasets.class_folder import open_class_folder
from regraft.demo.mobilenet import mobilenet_v1_025
from regraft.demo.shipped import CHECKPOINT, FACTORY, OF_NETWORK, PHOTOS, copy_network, copy_photos, foreign_photos
from regraft.depths.depth_advice import DepthAdvice
from regraft.evaluating import evaluate
from regraft.examples import as_examples
from regraft.foundation.files import all_entries, whole_folder
from regraft.foundation.wording import seconds_text
from regraft.freezing import freeze
from regraft.inputs import InputContract
from regraft.jobs.job import Job
from regraft.learning.solvers import Steps
from regraft.loading import apply_plan
from regraft.matching import plan_reuse
from regraft.predicting import Prediction
from regraft.reading import open_checkpoint
from regraft.recipe import Run, predict, reuse
from regraft.reporting import write_report
from regraft.reports.record import Variant
from regraft.saving import foreign_entries
from regraft.splitting import split
from regraft.training import train

Tell = Callable[[str], None]
Part = tuple[Tensor, Tensor]  # images (count, 3, SIZE, SIZE), labels (count,)

JOB = "job.toml"
CLASSES = 6
SIZE = 128  # pixels; the photographs have 100, the network was trained on 224
SAMPLES = 3  # test photographs of each class whose answers are shown
EPOCHS, BATCH_SIZE, LR = 30, 25, 3e-3
FROM_SCRATCH, UNCACHED, CACHED = "from scratch", "reused and frozen, uncached", "reused and frozen, cached"

JOB_TEXT = f"""\
# Six types of vehicles from 25 photographs each, on layers that TensorFlow trained on ImageNet.
#   regraft reuse job.toml --overwrite
[checkpoint]
path = "{CHECKPOINT}"     # TensorFlow 1
[model]
factory = "{FACTORY}"
args = {{num_classes = {CLASSES}}}            # one output for each class
[plan]
reuse = "Conv2d_.*"                   # the output layer is new
rename = {{"MobilenetV1/(.*)" = '\\1'}}   # the names in the checkpoint begin with MobilenetV1/
[freeze]
trainable = "Logits"                  # everything else stays as it is
[data]
train = "{PHOTOS}/train"               # a subfolder of images for each class
test = "{PHOTOS}/test"
validation = 0
[input]                               # as the original network saw its images: values from -1 to 1
size = {SIZE}
mean = 0.5
std = 0.5
resize = "squash"
[train.steps]
epochs = {EPOCHS}
batch_size = {BATCH_SIZE}
lr = {LR}
[out]
folder = "run"
"""


@dataclass(frozen=True)
class Demo:
    """What the demo measured.

    rows         the methods side by side; the standard error is that of the test photographs
    same         whether cached and uncached training ended in the same weights
    tolerance    within which they are the same; 0.0: to the last bit. See `weight_tolerance`
    run          the job's run
    predictions  its answers for a few test photographs of each class
    advice       how many layers to reuse, by the training photographs alone
    """

    folder: Path
    rows: tuple[Variant, ...]
    same: bool
    tolerance: float
    run: Run
    predictions: tuple[Prediction, ...]
    advice: DepthAdvice

    @property
    def speedup(self) -> float:
        """Seconds of uncached training for one second of cached training, with the time to fill the cache."""
        seconds = {row.name: row.seconds or 0.0 for row in self.rows}
        return seconds[UNCACHED] / seconds[CACHED]

    def summary(self) -> str:
        """The result table, a few answers, and where to look next."""
        equal = equality(self.tolerance) if self.same else "NOT equal"
        answers: dict[str, list[str]] = {}
        for answer in self.predictions:
            answers.setdefault(Path(answer.name).parent.name, []).append(f"{answer.label} {answer.probability:.2f}")
        return "\n".join(
            [
                f"Cached training is {self.speedup:.1f} times as fast; the trained weights are {equal}.",
                "",
                f"Answers for {SAMPLES} test photographs of each class, with their probability:",
                *(f"  {name:<12} {', '.join(given)}" for name, given in answers.items()),
                "",
                "How many layers to reuse, by the training photographs alone (the report has the chart):",
                *(f"  {sentence}" for sentence in self.advice.sentences[:1]),
                "",
                f"report: {self.folder / 'report.html'}",
                "",
                "The same with your own images, one folder for each class:",
                "  regraft init IMAGES/          # asks a few questions, writes job.toml",
                "  regraft reuse job.toml",
                "  regraft predict run/ NEW_IMAGES/",
            ]
        )


def run_demo(out: Path, *, overwrite: bool = False, tell: Tell = lambda line: None) -> Demo:
    """Learn six types of vehicles by three methods, then run the best of them as a job.

    tell  is given a line for each method as soon as it has ended

    Leaves a folder with the checkpoint, the network, the photographs, the job file, its run folder and a report; whole
    or not at all. Works in one thread: the steps are too small to be shared, and threads of a busy machine wait for
    each other.
    Raises SaveError when the folder exists and may not be replaced.
    """
    aside = out.with_name(f".{out.name}.old-{secrets.token_hex(4)}")
    with one_thread(), _put_back(aside, out):
        with whole_folder(out, overwrite=overwrite, foreign=foreign_to_demo) as folder:
            copy_network(folder)
            copy_photos(folder)
            (folder / JOB).write_text(JOB_TEXT, encoding="utf-8")
            data = {part: open_part(folder, part) for part in ("train", "test")}
            tell(
                f"{CLASSES} types of vehicles, 25 training photographs each, {EPOCHS} epochs. "
                f"Accuracy on {CLASSES * 25} others ± standard error:"
            )
            rows, same, tolerance = compare(folder / CHECKPOINT, data, tell)
            advice = advise(reused(folder / CHECKPOINT), data["train"])
            if out.exists():
                out.rename(aside)
        try:
            run = reuse(Job.from_file(out / JOB))
            record = replace(run.record, title="regraft demo: six types of vehicles", comparison=rows, advice=advice)
            write_report(out / "report.html", record)
            answers = predict(run.folder, sample_photos(out))
        except BaseException:
            shutil.rmtree(out)  # a part of the demo is no demo
            raise
    shown = tuple(answer for answer in answers if isinstance(answer, Prediction))
    return Demo(out, rows, same, tolerance, run, shown, advice)


@contextmanager
def _put_back(aside: Path, folder: Path) -> Iterator[None]:
    """Remove the folder that was put aside when the block ends well; put it back when it does not."""
    try:
        yield
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def foreign_to_demo(folder: Path) -> list[str]:
    """What a folder holds that no demo has."""
    own = {*OF_NETWORK, PHOTOS, JOB, "report.html", "run", "__pycache__"}
    others = [name for name in all_entries(folder) if name not in own] + foreign_photos(folder)
    run = folder / "run"
    return others + ([f"run/{name}" for name in foreign_entries(run)] if run.is_dir() else ["no run of the demo"])


def open_part(folder: Path, part: str) -> Part:
    """The photographs of a part, decoded, and their labels."""
    contract = InputContract(size=(SIZE, SIZE), mean=(0.5,), std=(0.5,))
    photos = as_examples(open_class_folder(folder / PHOTOS / part, Preparation(contract)))
    images, labels = photos.gather(torch.arange(len(photos)))
    assert isinstance(images, Tensor)
    return images, labels


def sample_photos(folder: Path) -> list[Path]:
    """The first test photographs of each class."""
    classes = sorted((folder / PHOTOS / "test").iterdir())
    return [photo for photos in classes for photo in sorted(photos.iterdir())[:SAMPLES]]


def compare(checkpoint: Path, data: dict[str, Part], tell: Tell) -> tuple[tuple[Variant, ...], bool, float]:
    """The three methods: accuracy and seconds of each; whether caching changed no weight, beyond which tolerance."""
    tolerance = weight_tolerance(split(reused(checkpoint), data["train"][0][:2])[0].cut)
    methods = {FROM_SCRATCH: from_scratch, UNCACHED: uncached, CACHED: cached}
    rows, models = [], []
    for name, method in methods.items():
        began = time.perf_counter()
        model = method(checkpoint, data["train"])
        seconds = time.perf_counter() - began
        score = evaluate(model, data["test"])
        rows.append(Variant(name, score.accuracy or 0.0, score.standard_error or 0.0, seconds))
        tell(f"  {name:<28} {rows[-1].accuracy:.3f} ± {rows[-1].standard_error:.3f}   {seconds_text(seconds)}")
        models.append(model)
    same = have_same_weights(*models[1:], tolerance=tolerance)
    rows[-1] = replace(rows[-1], note=f"weights of uncached training: {equality(tolerance)}" if same else "differs")
    return tuple(rows), same, tolerance


def from_scratch(checkpoint: Path, examples: Part) -> nn.Module:
    """New initial weights everywhere."""
    torch.manual_seed(0)
    model = mobilenet_v1_025(CLASSES)
    for layer in list(model.children())[:-1]:
        # With torch's default, activations vanish in 27 layers without norms.
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]  # a convolution's
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    train(model, examples, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE, lr=LR))
    return model


def uncached(checkpoint: Path, examples: Part) -> nn.Module:
    """The convolutions frozen, and computed anew in each epoch."""
    model = reused(checkpoint)
    train(model, examples, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE, lr=LR))
    return model


def cached(checkpoint: Path, examples: Part) -> nn.Module:
    """The convolutions frozen, and computed once."""
    model = reused(checkpoint)
    trunk, head = split(model, examples[0][:2])
    features = cache_features(trunk, examples, batch_size=BATCH_SIZE)
    train(head, features, solver=Steps(epochs=EPOCHS, batch_size=BATCH_SIZE, lr=LR))
    return model


def reused(checkpoint: Path) -> nn.Module:
    """The network with the checkpoint's convolutions, frozen, and a new output layer."""
    torch.manual_seed(0)
    model, opened = mobilenet_v1_025(CLASSES), open_checkpoint(checkpoint)
    plan = plan_reuse(opened, model, reuse="Conv2d_.*", rename={"MobilenetV1/(.*)": r"\1"})
    apply_plan(plan, opened, model)
    freeze(model, trainable="Logits")
    return model


def weight_tolerance(cut: Cut) -> float:
    """How far cached and uncached weights may differ, relative to an array's largest; 0.0: not by a bit.

    Where rows are rounded by their index in the batch, the gradients of each step differ by about as much as the
    features do, and the differences of all steps add up. (Measured: features changed by 1e-7 of themselves moved the
    weights by 1e-6 in 300 steps; this allows ten times as much and more.)
    """
    return EPOCHS * (CLASSES * 25 // BATCH_SIZE) * cut.row_tolerance


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
