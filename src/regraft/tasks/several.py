"""Several tasks of one model: a dictionary or tuple of outputs, and labels of the same structure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from regraft.errors import DataError
from regraft.foundation.wording import listed
from regraft.tasks.outputs import find_output
from regraft.tasks.task import LabelCheck, Task


@final
@dataclass(frozen=True)
class Several:
    """A task for each part of the outputs, by the name of that part: a key, an attribute, or its index in a tuple.

    tasks    name of the part → its task. Labels have the same names
    weights  name → factor of the part's loss in the sum; 1 where none is given
    """

    tasks: Mapping[str, Task]
    weights: Mapping[str, float] = field(default_factory=dict)
    name: str = "several"

    def __post_init__(self) -> None:
        unknown = [name for name in self.weights if name not in self.tasks]
        if unknown:
            raise DataError(f"There are weights for {listed(unknown)}, and the tasks are {listed(list(self.tasks))}.")

    def parts(self, outputs: object, labels: object) -> Iterator[tuple[str, Task, Tensor, Tensor]]:
        """Name, task, output and labels of each part. Raises DataError that names each part that is missing."""
        given = label_parts(labels)
        found = {name: find_output(outputs, name) for name in self.tasks}
        outputs = {name: output for name, output in found.items() if output is not None}
        self._refuse_misfit(outputs, given)
        for name, task in self.tasks.items():
            yield name, task, outputs[name], given[name]

    def _refuse_misfit(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> None:
        missing = [f"the model has no output {name!r}" for name in self.tasks if name not in outputs]
        missing += [f"the labels have no part {name!r}" for name in self.tasks if name not in labels]
        missing += [f"no task is given for the labels {name!r}" for name in labels if name not in self.tasks]
        if missing:
            raise DataError(f"Outputs, labels and tasks do not fit: {'; '.join(missing)}.")

    def check(self, outputs: object, labels: object) -> LabelCheck:
        """The check of each part. Raises DataError that names the part."""
        checks = {}
        for name, task, output, part in self.parts(outputs, labels):
            with naming(name):
                checks[name] = task.check(output, part)
        return _ChecksByPart(checks)


@final
class _ChecksByPart(LabelCheck):
    """The checks of several parts; what is refused is named."""

    def __init__(self, checks: Mapping[str, LabelCheck]) -> None:
        self.checks = checks

    def look(self, labels: object, indices: Tensor | None = None) -> None:
        """Look at each part."""
        given = label_parts(labels)
        for name, check in self.checks.items():
            with naming(name):
                check.look(given[name], indices)

    def merge(self, other: LabelCheck) -> None:
        """Merge each check."""
        for name, check in other.checks.items() if isinstance(other, _ChecksByPart) else ():
            self.checks[name].merge(check)

    def finish(self) -> None:
        """Finish each check."""
        for name, check in self.checks.items():
            with naming(name):
                check.finish()


class naming:  # noqa: N801  # a context manager reads as a verb
    """DataErrors of the block begin with the name of the part."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DataError):
            raise DataError(f"Labels {self.name!r}: {error.text}", advice=error.advice) from error


def label_parts(labels: object) -> dict[str, Tensor]:
    """The parts of labels by name: keys, or indices in a tuple."""
    if isinstance(labels, Mapping):
        return dict(labels)
    return {str(index): part for index, part in enumerate(labels)} if isinstance(labels, tuple | list) else {}
