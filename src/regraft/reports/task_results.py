"""What the report shows of labels that are no single class for each example: numbers, several labels, positions."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from regraft.collecting import predictions
from regraft.datasets.labelled import Labelled, Target
from regraft.evaluating import Score
from regraft.examples import as_examples
from regraft.labels import IGNORED

BY_POSITION = ("token-classification", "segmentation", "language-model")
YES = 0.5  # the probability from which a label applies
MEASURES = {"mean_absolute_error": "MAE", "r2": "R²", "f1": "F1", "mean_iou": "Mean IoU", "accuracy": "Accuracy",
            "perplexity": "Perplexity", "auroc": "AUROC"}  # fmt: skip
MAIN = {"regression": "mean_absolute_error", "multilabel": "f1", "segmentation": "mean_iou",
        "language-model": "perplexity", "token-classification": "f1"}  # fmt: skip


@dataclass(frozen=True)
class PredictedNumbers:
    """A number that was to be predicted: its name, and for each example the true and the predicted value."""

    name: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class TaskResult:
    """The answers on the main part of the data, and what would be reached without looking at the examples.

    baseline_name  what answers so: "the mean of the training labels"
    baseline       name of a metric → its value
    per_class      name of a class or label → heading → value
    columns        of a regression
    answers        rows of answers.csv: the header first; () where the answers are no cells of a table
    """

    task: str
    part: str
    baseline_name: str = ""
    baseline: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    columns: tuple[PredictedNumbers, ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()

    @property
    def noun(self) -> str:
        """What a score counts: the positions that have a label, or examples."""
        return "label" if self.task in BY_POSITION else "example"

    def to_csv(self) -> str:
        """The answers as a table."""
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.answers)
        return text.getvalue()

    def to_dict(self) -> dict[str, object]:
        """Task, baseline and the numbers of each class, for metrics.json."""
        return {
            "task": self.task,
            "baseline": {"name": self.baseline_name, **self.baseline},
            "per_class": {name: dict(values) for name, values in self.per_class.items()},
        }


def measure_name(name: str) -> str:
    """The heading of a metric; of several tasks with the name of its part."""
    part, dot, name = name.rpartition(".")
    if dot:
        return f"{part}: {measure_name(name)}"
    return MEASURES.get(name, name.replace("_", " ").capitalize())


def task_result_of(
    trained: nn.Module, examples: object, data: Mapping[str, Labelled], part: str, score: Score
) -> TaskResult | None:
    """The result on a part of the data; None for one class for each example, which has its own.

    examples  of the part, as `trained` takes them: features, or the data set itself
    """
    target, training = data["train"].target, data["train"]
    if target.parts:
        return _several_parts(trained, examples, data[part], training, part)
    if target.task == "regression":
        return _numbers(trained, examples, data[part], training, part)
    if target.task == "multilabel":
        return _several_labels(trained, examples, data[part], training, part, score)
    if target.task == "language-model":
        return TaskResult("language-model", part, *_unigram(examples, training))
    if target.task in ("token-classification", "segmentation"):
        return _positions(target, part, score)
    return None


def _numbers(trained: nn.Module, examples: object, dataset: Labelled, training: Labelled, part: str) -> TaskResult:
    known = predictions(trained, examples, task="regression")
    true, predicted = (values.reshape(len(dataset), -1).double() for values in (known.labels, known.outputs))
    assert training.labels is not None, "numbers are known beforehand"
    mean = training.labels.reshape(len(training), -1).double().mean(0)
    count = true.shape[1]
    names = training.target.columns or (("value",) if count == 1 else tuple(f"value{i}" for i in range(count)))
    heads = ("name", *(f"{kind} {name}" for name in names for kind in ("true", "predicted")))
    cells = torch.stack([true, predicted], 2).reshape(len(dataset), -1).tolist()
    rows = [(name, *(f"{cell:.9g}" for cell in row)) for name, row in zip(dataset.ids, cells, strict=True)]
    pairs = list(zip(names, true.T, predicted.T, strict=True))
    return TaskResult(
        "regression",
        part,
        "the mean of the training labels",
        {"mean_absolute_error": float((true - mean).abs().mean()), "r2": _r2(true, mean.expand_as(true))},
        {name: _errors(labels, answers) for name, labels, answers in pairs},
        tuple(PredictedNumbers(name, (*labels.tolist(),), (*answers.tolist(),)) for name, labels, answers in pairs),
        (heads, *rows),
    )


def _errors(true: Tensor, predicted: Tensor) -> dict[str, float]:
    """Of one number, for all examples."""
    return {
        "MAE": float((true - predicted).abs().mean()),
        "R²": _r2(true[:, None], predicted[:, None]),
        "Mean residual": float((predicted - true).mean()),
    }


def _several_parts(
    trained: nn.Module, examples: object, dataset: Labelled, training: Labelled, part: str
) -> TaskResult:
    """Each column's answers beside its labels, and what the usual label or the mean would reach."""
    known = predictions(trained, examples, task=training.target.given_task)
    rows = [training.label_of(index) for index in range(len(training))]
    columns: list[tuple[str, Sequence[str]]] = [("name", dataset.ids)]
    numbers, baseline = list[PredictedNumbers](), dict[str, float]()
    for target in training.target.parts:
        name = target.columns[0]
        true, outputs = known.labels[name].reshape(len(dataset), -1), known.outputs[name].reshape(len(dataset), -1)
        usual = torch.stack([row[name] for row in rows])
        names = target.classes or ()
        if target.task == "regression":
            true, outputs, mean = true[:, 0].double(), outputs[:, 0].double(), usual.double().mean()
            numbers.append(PredictedNumbers(name, tuple(true.tolist()), tuple(outputs.tolist())))
            baseline[f"{name}.mean_absolute_error"] = float((true - mean).abs().mean())
            cells = _cells(lambda value: f"{value:.9g}", true, outputs)
        elif target.task == "classification":
            most = int(torch.bincount(usual).argmax())
            baseline[f"{name}.accuracy"] = float((true == most).double().mean())
            cells = _cells(names.__getitem__, true[:, 0].long(), outputs.argmax(1))
        else:
            always = (usual.double().mean(0) >= YES).double()
            baseline[f"{name}.accuracy"] = float((true == always).double().mean())
            yes = known.probabilities[name].reshape(len(dataset), -1)
            cells = _cells(partial(_joined, names), true, yes)
        columns += [(f"true {name}", cells[0]), (f"predicted {name}", cells[1])]
    heads, values = zip(*columns, strict=True)
    answers = (tuple(heads), *zip(*values, strict=True))
    return TaskResult("several", part, "the usual label", baseline, columns=tuple(numbers), answers=answers)


def _cells(text: Callable[[Any], str], true: Tensor, predicted: Tensor) -> tuple[list[str], list[str]]:
    """The true and the predicted value of each example, as the cells of two columns."""
    return [*map(text, true.tolist())], [*map(text, predicted.tolist())]


def _r2(true: Tensor, predicted: Tensor) -> float:
    """The mean over the columns of 1 - residual / total sum of squares."""
    total = ((true - true.mean(0)) ** 2).sum(0)
    return float((1 - ((true - predicted) ** 2).sum(0) / total).mean()) if bool((total > 0).all()) else float("nan")


def _several_labels(
    trained: nn.Module, examples: object, dataset: Labelled, training: Labelled, part: str, score: Score
) -> TaskResult:
    known = predictions(trained, examples, task="multilabel")
    names, true = training.classes, known.labels.reshape(len(dataset), -1).double()
    probabilities = known.probabilities.reshape(len(dataset), -1).double()
    assert training.labels is not None, "labels are known beforehand"
    often = training.labels.double().mean(0)
    always = (often >= YES).double().expand_as(true)
    per_class = {
        name: {"Precision": found.precision, "Recall": found.recall, "F1": found.f1, "Support": found.support,
               "In training": float(often[column])}
        for column, (name, found) in enumerate(zip(names, score.per_class, strict=True))
    }  # fmt: skip
    rows = [
        (example, _joined(names, row), _joined(names, answer), *(f"{p:.6f}" for p in answer))
        for example, row, answer in zip(dataset.ids, true.tolist(), probabilities.tolist(), strict=True)
    ]
    baseline = {"accuracy": float((always == true).double().mean()), "f1": _f1(true, always)}
    heads = ("name", "true", "predicted", *names)
    return TaskResult("multilabel", part, "the usual answer of each label", baseline, per_class, answers=(heads, *rows))


def _f1(true: Tensor, predicted: Tensor) -> float:
    """The mean over the labels that occur or are predicted."""
    hits, either = (true * predicted).sum(0), true.sum(0) + predicted.sum(0)
    return float((2 * hits / either.clamp(min=1))[either > 0].mean()) if bool((either > 0).any()) else float("nan")


def _joined(names: Sequence[str], values: Sequence[float]) -> str:
    return ";".join(name for name, value in zip(names, values, strict=True) if value >= YES)


def _positions(target: Target, part: str, score: Score) -> TaskResult:
    """Of a class for each token or pixel: by the confusion of all positions."""
    names = target.classes or ()
    table = torch.tensor(score.confusion, dtype=torch.float64)
    if not len(table):
        return TaskResult(str(target.task), part)
    support, predicted, hits = table.sum(1), table.sum(0), table.diagonal()
    union = (support + predicted - hits).clamp(min=1)
    most = int(support.argmax())
    share, occurring = float(support[most] / support.sum()), int((support > 0).sum())
    per_class = {
        name: {"IoU": float(hits[i] / union[i]), "Precision": found.precision, "Recall": found.recall, "F1": found.f1,
               "Support": float(support[i])}
        for i, (name, found) in enumerate(zip(names, score.per_class, strict=False))
    }  # fmt: skip
    baseline = {"accuracy": share, "mean_iou": share / occurring, "f1": 2 * share / (1 + share) / occurring}
    name = names[most] if most < len(names) else str(most)
    return TaskResult(str(target.task), part, f"always “{name}”", baseline, per_class)


def _unigram(examples: object, training: Labelled) -> tuple[str, dict[str, float]]:
    """How well the tokens are predicted by how often they occur in the training texts, whatever stands before them."""
    seen = torch.cat([training[index][1] for index in range(len(training))])
    rows = as_examples(examples)
    _, labels = rows.gather(torch.arange(len(rows)))
    asked = torch.as_tensor(labels)[:, 1:].reshape(-1)
    asked, seen = asked[asked != IGNORED], seen[seen != IGNORED]
    if not len(asked):
        return "", {}
    size = int(torch.cat([asked, seen]).max()) + 1
    counts = torch.bincount(seen, minlength=size).double() + 1  # one more of each, so that none is impossible
    shares = counts / counts.sum()
    perplexity = float((-shares[asked].log()).mean().exp())
    return "the frequency of each token", {
        "perplexity": perplexity, "accuracy": float((asked == counts.argmax()).double().mean()),
    }  # fmt: skip
