"""Other batches made from an example."""

import torch

from regraft.cuts.batches import batch_of


def test_another_batch_has_one_row_more_in_another_order():
    """`order` says which; the new row is larger than all, so that no maximum of the batch stays."""
    x = torch.arange(3.0)[:, None]
    batch = batch_of((x,), {"mask": x > 0, "scale": torch.ones(7)})
    (other,), options = batch.another()
    assert other[:, 0].tolist() == [4, 2, 1, 0]
    assert batch.order().tolist() == [-1, 2, 1, 0]
    assert options["mask"].shape == (4, 1)
    assert options["scale"].shape == (7,)


def test_a_single_row_is_joined_by_itself_back_to_front():
    """Two equal rows would hide that a model mixes them."""
    (other,), _ = batch_of((torch.tensor([[1, 2, 3]]),), {}).another()
    assert other.tolist() == [[3, 2, 1], [1, 2, 3]]
    assert batch_of((torch.zeros(1, 3),), {}).order().tolist() == [-1, 0]


def test_pictures_in_a_list_are_a_batch():
    """As detection models take them; a list of inputs with rows is not."""
    pictures = [torch.full((3, 4, 4), float(i)) for i in range(2)]
    batch = batch_of((pictures, [{"boxes": 1}, {"boxes": 2}]), {})
    assert (batch.rows, batch.is_listed) == (2, True)
    assert [picture[0, 0, 0].item() for picture in batch.another()[0][0]] == [0, 1, 0]
    assert batch_of(([torch.zeros(5, 2), torch.zeros(5, 3)],), {}).rows == 5


def test_lengths_are_cut_in_the_middle_in_every_input():
    """The ends have a meaning: a first token, a last one, padding."""
    ids = torch.arange(8).repeat(2, 1)
    batch = batch_of((), {"ids": ids, "mask": torch.ones(2, 1, 8, 8)})
    assert batch.lengths() == {"length of ids": 8}
    _, shorter = batch.shortened(8, 5)
    assert shorter["ids"][0].tolist() == [0, 1, 2, 6, 7]
    assert shorter["mask"].shape == (2, 1, 5, 5)


def test_a_third_dimension_may_be_a_length_and_pictures_have_none():
    """Points and samples of sound come last, frames of a film second."""
    assert batch_of((torch.zeros(2, 3, 20),), {}).lengths() == {"width of 0": 20}
    assert batch_of((torch.zeros(2, 5, 3, 8, 8),), {}).lengths() == {"length of 0": 5}
    assert batch_of((torch.zeros(2, 5, 8, 8),), {}).lengths() == {}


def test_the_lengths_of_the_examples_are_shortened_too():
    """An argument that says how much of each row counts."""
    x, lengths = torch.zeros(2, 8), torch.tensor([8, 3])
    assert batch_of((x, lengths), {}).shortened(8, 5)[0][1].tolist() == [5, 3]


def test_an_altered_batch_has_the_same_sizes_and_whole_numbers():
    """Indices of nodes stay as they are."""
    (x, edges), _ = batch_of((torch.tensor([[1.0], [2]]), torch.tensor([[0, 1]])), {}).altered()
    assert x.tolist() == [[4], [2]]
    assert edges.tolist() == [[0, 1]]


def test_another_mate_changes_the_new_row_alone():
    """The same places, other numbers."""
    batch = batch_of((torch.randn(3, 2), torch.arange(3)), {})
    (x, ids), (y, others) = batch.another()[0], batch.another(mate=1)[0]
    assert torch.equal(x[1:], y[1:])
    assert not torch.equal(x[0], y[0])
    assert (ids.tolist(), others.tolist()) == ([0, 2, 1, 0], [1, 2, 1, 0])


def test_rows_and_lengths_of_other_arguments_are_measured():
    """By the same names."""
    batch = batch_of((), {"ids": torch.zeros(2, 8)})
    assert batch.measured((), {"ids": torch.zeros(5, 11)}) == {"rows": 5, "length of ids": 11}
    assert batch_of((3,), {}).rows == 0


def test_other_batches_lie_in_memory_as_the_example_does():
    """Channels-last, as pictures that NumPy reads do: kernels round by it."""
    pictures = torch.randn(2, 6, 8, 3).permute(0, 3, 1, 2)
    batch = batch_of((pictures,), {})
    for arguments in (batch.another(), batch.altered(), batch.shortened(8, 5)):
        ((other,), _) = arguments
        assert other.is_contiguous(memory_format=torch.channels_last)
    ((expanded,), _) = batch_of((torch.randn(2, 1).expand(2, 6),), {}).another()
    assert expanded.shape == (3, 6)
