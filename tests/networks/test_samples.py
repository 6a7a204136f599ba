"""Sizes on which a network is tried where its file leaves them free."""

from regraft.networks.network import NetworkInput
from regraft.networks.samples import sample_shapes


def test_recorded_sizes_stay_and_the_batch_is_2():
    """There is then one sample alone."""
    assert list(sample_shapes([NetworkInput("x", (None, 3, 8, 8))], {})) == [{"x": (2, 3, 8, 8)}]


def test_free_sizes_are_tried_one_after_the_other():
    """Images begin with 224, lists with 16."""
    samples = list(sample_shapes([NetworkInput("x", (None, 3, None, None)), NetworkInput("t", (None, None))], {}))

    assert samples[0] == {"x": (2, 3, 224, 224), "t": (2, 16)}
    assert samples[1]["x"][2:] == (256, 256)
    assert samples[1]["t"] == (2, 32)


def test_a_shape_that_the_user_names_is_taken():
    """For this input; the others keep to the rules."""
    assert next(sample_shapes([NetworkInput("x", (None, None)), NetworkInput("y", (None,))], {"x": (1, 7)})) == {
        "x": (1, 7),
        "y": (2,),
    }


def test_the_batch_of_a_recurrent_state_is_its_second_axis():
    """(layers, n, hidden)."""
    assert next(sample_shapes([NetworkInput("h", (2, None, 128))], {})) == {"h": (2, 2, 128)}
