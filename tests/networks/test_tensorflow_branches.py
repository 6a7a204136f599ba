"""TensorFlow's `If` has both branches as networks; loops are refused."""

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.network import Network, NetworkInput, Node
from regraft.networks.tensorflow_branches import BRANCHES
from regraft.networks.tensorflow_translation import TensorFlowTranslation, walk


def branch(function, outer):
    """A function that does what it is called, to the first value that it takes."""
    return Network((NetworkInput(str(outer[0]), ()),), (Node(function, (outer[0],), ("r",)),), ("r",))


def test_a_choice_names_what_its_branches_take():
    """The condition first."""
    order = [ProgramOperation("StatelessIf", "y", ("c", "x"), {"then_branch": "relu", "else_branch": "neg"})]
    translation = TensorFlowTranslation({}, {}, {}, lambda name: None, BRANCHES, branch=branch)

    walk(translation, order, ("y",))

    (node,) = translation.draft.nodes
    assert (node.operator, node.inputs) == ("if", ("c", "x"))
    assert [node.settings[word].nodes[0].operator for word in ("then", "else")] == ["relu", "neg"]


def test_loops_are_refused():
    """By name."""
    order = [ProgramOperation("While", "loop", ("x",), {})]
    translation = TensorFlowTranslation({}, {}, {}, lambda name: None, BRANCHES)

    walk(translation, order, ())

    assert [str(problem) for problem in translation.draft.untranslated] == ["While loop: loops have no translation"]
