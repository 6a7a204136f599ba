"""Where the network of a training graph begins and ends."""

from regraft.formats.tensorflow_program import ProgramOperation as Op
from regraft.networks.tensorflow_ends import entry_of, is_training_switch, outputs_of


def graph(*operations):
    """Operations by their names."""
    return {operation.name: operation for operation in operations}


X = Op("Placeholder", "X", (), {"dtype": "float32", "shape": (None, 4)})
Y = Op("Placeholder", "y", (), {"dtype": "int32", "shape": (None,)})
W = Op("VariableV2", "w", (), {})
LAYER = Op("MatMul", "fc/MatMul", ("X", "w"), {})


def test_the_network_gives_what_its_loss_takes():
    """Not the softmax of a report, nor the accuracy, nor gradients."""
    operations = graph(
        X, Y, W, LAYER, Op("SparseSoftmaxCrossEntropyWithLogits", "loss/xent", ("fc/MatMul", "y"), {}),
        Op("Softmax", "report", ("fc/MatMul",), {}), Op("MatMul", "gradients/MatMul", ("fc/MatMul",
            "w"), {}),
    )  # fmt: skip

    assert outputs_of(operations) == ["fc/MatMul"]


def test_without_a_loss_it_gives_what_nothing_else_takes():
    """Summaries aside."""
    operations = graph(X, W, LAYER, Op("Softmax", "p", ("fc/MatMul",), {}), Op("HistogramSummary", "h", ("p",), {}))

    assert outputs_of(operations) == ["p"]


def test_placeholders_are_inputs_unless_they_say_whether_the_network_trains():
    """Those have no axes."""
    switch = Op("Placeholder", "is_training", (), {"dtype": "bool", "shape": ()})

    assert is_training_switch(switch)
    assert not is_training_switch(X)
    assert entry_of(X).shape == (None, 4)


def test_a_picture_is_decoded_by_the_caller():
    """And texts are no inputs."""
    assert entry_of(Op("DecodeJpeg", "jpeg", ("text",), {})).shape == (None, None, 3)
    assert entry_of(Op("Placeholder", "text", (), {"dtype": "string", "shape": ()})) is None
