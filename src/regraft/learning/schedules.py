"""Schedules of gradual unfreezing as plain data: epoch (from 0) → patterns of the layers that train from then on."""

from collections.abc import Mapping, Sequence

from regraft.foundation.patterns import Patterns

Schedule = Mapping[int, Patterns]
EPOCHS = 20  # where neither the job nor the caller gives a number


def form_problems(schedule: Schedule, epochs: int) -> list[str]:
    """A sentence for each reason why no model could train by this schedule for so many epochs."""
    if not isinstance(schedule, Mapping):
        return [f"the schedule is {schedule!r}, expected a mapping of epochs to layers: {{0: 'head', 5: 'layer4'}}"]
    problems = [f"the schedule has the key {key!r}, expected the number of an epoch" for key in _other_keys(schedule)]
    if 0 not in schedule:
        problems.append("the schedule has no entry for epoch 0, which names the layers that train first")
    for epoch, patterns in in_order(schedule):
        problems += [f"epoch {epoch} of the schedule{problem}" for problem in _entry_problems(epoch, patterns, epochs)]
    return problems


def _entry_problems(epoch: int, patterns: Patterns, epochs: int) -> list[str]:
    problems = []
    if epochs > 0 and not 0 <= epoch < epochs:
        problems.append(
            f" is outside the {epochs} epochs, which are 0 to {epochs - 1}: choose an earlier epoch, or train for more "
            "epochs"
        )
    if isinstance(patterns, Sequence) and len(patterns) == 0:
        problems.append(": the list of layers is empty")
    return problems


def in_order(schedule: Schedule) -> list[tuple[int, Patterns]]:
    """The entries by epoch; keys that are no epochs are left out."""
    return sorted(((epoch, patterns) for epoch, patterns in schedule.items() if type(epoch) is int), key=lambda e: e[0])


def _other_keys(schedule: Schedule) -> list[object]:
    return [key for key in schedule if type(key) is not int]
