"""How a choice between two branches is written: an `if` of Python, whose condition is a size or a tensor of one."""

from collections.abc import Sequence
from textwrap import indent

from regraft.networks.axis_orders import Held
from regraft.networks.source import Statement


def if_text(condition: str, branches: Sequence[Sequence[str]]) -> str:
    """The statement of a choice.  branches  lines of the one that is taken, and of the other one"""
    then, otherwise = (indent("\n".join(lines), "    ") for lines in branches)
    return f"if {condition}:\n{then}\nelse:\n{otherwise}"


def branch_lines(statements: Sequence[Statement], given: Sequence[Held], targets: Sequence[str]) -> list[str]:
    """The lines of a branch, which set the targets to what it gives."""
    values = [held.text for held in given]
    lines = [statement.line for statement in statements]
    if values != list(targets):
        lines.append(f"{', '.join(targets)} = {', '.join(values)}")
    return lines or ["pass"]


def refusal_lines(reason: str) -> list[str]:
    """The lines of a branch that the sizes of the sample do not fit, so that it could not be written."""
    text = f"these sizes need a part of the network that could not be built: {reason}"
    return [f"raise ValueError({text!r})"]
