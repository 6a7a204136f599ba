"""Calls of layers in both of Keras' forms."""

from regraft.networks.keras_calls import CallOutput, calls_of, outer_tensors

HISTORY = {"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": ["a", 1, 0]}}


def test_keras_3_names_tensors_in_arguments():
    """Positional ones, lists, keywords."""
    (call,) = calls_of({"inbound_nodes": [{"args": [[HISTORY, HISTORY], 2], "kwargs": {"mask": None}}]})

    assert call.arguments == ([CallOutput("a", 1), CallOutput("a", 1)], 2)
    assert list(call.tensors()) == [CallOutput("a", 1)] * 2


def test_keras_2_lists_references():
    """With keyword arguments beside the first."""
    (call,) = calls_of({"inbound_nodes": [[["a", 0, 0, {"y": ["b", 0, 1]}]]]})

    assert call.arguments == (CallOutput("a"),)
    assert call.named == {"y": CallOutput("b", 0, 1)}
    (joined,) = calls_of({"inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]]})
    assert joined.arguments == ([CallOutput("a"), CallOutput("b")],)


def test_inputs_and_outputs_come_alone_in_lists_and_in_tables():
    """Keras 3 writes one without a list."""
    assert outer_tensors(["a", 0, 0]) == [CallOutput("a")]
    assert outer_tensors([["a", 0, 0], ["b", 1, 0]]) == [CallOutput("a"), CallOutput("b", 1)]
    assert outer_tensors({"x": ["a", 0, 0]}) == [CallOutput("a")]
