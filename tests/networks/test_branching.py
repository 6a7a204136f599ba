"""How a choice between two branches is written."""

from regraft.networks.axis_orders import Held
from regraft.networks.branching import branch_lines, if_text, refusal_lines
from regraft.networks.source import Statement


def test_an_if_has_both_branches():
    """Each sets the same variables."""
    then = branch_lines([Statement(("x",), "x + 1")], [Held("x", (2,))], ["y"])
    text = if_text("n == 2", [then, refusal_lines("it is too small")])

    frame = {"n": 2, "x": 1}
    exec(text, frame)

    assert frame["y"] == 2
    assert "raise ValueError('these sizes need a part of the network that could not be built: it is too small')" in text


def test_a_branch_that_gives_what_it_takes_has_a_line_all_the_same():
    """Python needs one."""
    assert branch_lines([], [Held("y", (2,))], ["y"]) == ["pass"]
