"""A schedule of training as plain data: epoch (from 0) → the patterns of the layers that train from then on."""

from collections.abc import Mapping, Sequence

from regraft.patterns import Patterns

Schedule = Mapping[int, Patterns]
EPOCHS = 20  # of a training that is told no number


def form_problems(schedule: Schedule, epochs: int) -> list[str]:
    """A sentence for each reason why so many epochs cannot follow the schedule, whatever the model is."""
    problems = []
    if 0 not in schedule:
        problems.append('the schedule has no entry for epoch 0: say what trains first, schedule={0: "head", …}')
    for epoch, patterns in sorted(schedule.items()):
        if not 0 <= epoch < epochs:
            problems.append(
                f"epoch {epoch} of the schedule is none of the {epochs} epochs, 0 to {epochs - 1}: "
                "choose an earlier one, or more epochs"
            )
        if isinstance(patterns, Sequence) and not isinstance(patterns, str) and not patterns:
            problems.append(f"epoch {epoch} of the schedule: an empty list has no parameters")
    return problems
