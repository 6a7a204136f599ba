"""A job's examples: the training, validation and test parts."""

from collections.abc import Mapping
from pathlib import Path

import torch

from regraft.datasets.labelled import Chosen, Labelled, pick_per_class, random_split, stratified_split
from regraft.datasets.opening import has_data, open_data
from regraft.errors import DataError
from regraft.foundation.wording import as_toml, counted
from regraft.jobs.factories import factory_file
from regraft.jobs.job import Job


def inputs_of(job: Job) -> dict[str, Path]:
    """What the job starts from, by name: a run folder that holds any of it is never replaced."""
    paths = {
        "the job": ".",
        "the checkpoint": job.checkpoint.path,
        "the training data": job.data.train,
        "the validation data": job.data.validation,
        "the test data": job.data.test,
        "the tokenizer": job.text.tokenizer if job.text else None,
        "the feature cache": job.cache.folder,
    }
    code = factory_file(job.model.factory, job.folder)
    inputs = {name: job.path(path) for name, path in paths.items() if isinstance(path, str)}
    return inputs if code is None else {**inputs, "the model's code": code}


def refuse_missing_data(job: Job) -> None:
    """Raise DataError that names every path of [data] at which there is nothing."""
    paths = {"train": job.data.train, "validation": job.data.validation, "test": job.data.test}
    missing = {name: path for name, path in paths.items() if isinstance(path, str) and not has_data(job.path(path))}
    if missing:
        lines = [f"  [data] {name} = {as_toml(path)}: {job.path(path)}" for name, path in missing.items()]
        raise DataError("\n".join(["These data do not exist:", *lines]))


def open_parts(job: Job) -> dict[str, Labelled]:
    """The job's examples: train, and validation and test where the job has them."""
    whole = _open(job, job.data.train)
    parts = _with_validation(job, whole)
    if job.data.per_class:
        parts["train"] = _some_of_each_class(parts["train"], job.data.per_class, job.train.seed)
    if job.data.test is not None:
        parts["test"] = _open(job, job.data.test, like=whole)
    return parts


def training_classes(job: Job) -> int:
    """How many classes, or columns of labels, the training data name. Raises DataError where they name none."""
    data = _open(job, job.data.train)
    names = data.classes or data.target.columns
    if not names:
        raise DataError(
            f"[data] train = {as_toml(job.data.train)} does not name its classes. Write the number of outputs into the "
            "job: [model] head = {classes = 6}."
        )
    return len(names)


def _open(job: Job, path: str, like: Labelled | None = None) -> Labelled:
    """The data at a path of the job; `like` the training data where they are opened already."""
    preparation, target = (job.preparation, job.target) if like is None else (like.preparation, like.target)
    return open_data(job.path(path), preparation, target=target, skip_unreadable=job.data.skip_unreadable)


def _some_of_each_class(whole: Labelled, count: int, seed: int) -> Labelled:
    labels = whole.class_numbers()
    if labels is None:
        raise DataError(
            f"[data] per_class takes examples of each class, and the task is {whole.target.task}. Leave it out."
        )
    return Chosen(whole, pick_per_class(labels, count, seed=seed))


def _with_validation(job: Job, whole: Labelled) -> dict[str, Labelled]:
    """The training data, and what validates: other data, the first examples, or a part of each class.

    Where an example has no single class, a part of all examples.
    """
    validation = job.data.validation
    if isinstance(validation, str):
        return {"train": whole, "validation": _open(job, validation, like=whole)}
    if validation == 0:
        return {"train": whole}
    if validation < 1:
        labels, seed = whole.class_numbers(), job.train.seed
        if labels is None:
            rest, held_out = random_split(len(whole), validation, seed=seed)
        else:
            rest, held_out = stratified_split(labels, validation, seed=seed)
    else:
        first = round(validation)
        if first >= len(whole):
            raise DataError(
                f"[data] validation takes the first {first} examples, but the training data have only {len(whole)}."
            )
        held_out, rest = torch.arange(len(whole)).tensor_split([first])
    return {"train": Chosen(whole, rest), "validation": Chosen(whole, held_out)}


def notes_of(parts: Mapping[str, Labelled]) -> list[str]:
    """What was skipped or assumed in the data; once where parts come from one folder."""
    first_part = {note: part for part, dataset in reversed(list(parts.items())) for note in dataset.notes}
    return [f"{part}: {note}" for note, part in first_part.items()]


def cached_besides(parts: Mapping[str, Labelled]) -> str:
    """What a cost of the training data does not count; "" when there is nothing else."""
    others = [f"{counted(len(dataset), 'example')} for {part}" for part, dataset in parts.items() if part != "train"]
    return f"That is the training data alone; {' and '.join(others)} are cached as well." if others else ""
