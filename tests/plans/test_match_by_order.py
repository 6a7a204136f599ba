"""Without wiring, layers are paired by names and order where these leave no doubt, and are ambiguous elsewhere."""

import pytest

from regraft.plans.match_by_order import match_orders, natural

DENSE, NORM = ("dense", (4, 4)), ("batch_norm", 4)


def test_an_order_that_contradicts_the_numbers_is_not_believed():
    signature = ("dense", (4, 4))

    matches = match_orders({"a1": signature, "a2": signature}, {"b2": signature, "b1": signature})

    assert not matches.pairs
    assert set(matches.ambiguous) == {"a1", "a2"}


def test_roles_are_paired_by_the_words_that_both_use():
    signature = ("dense", (4, 4))
    ours = {f"layer.{i}.attn.{part}": signature for i in range(2) for part in ("query", "key", "value")}
    theirs = {f"h{i}_{part}_projection": signature for i in range(2) for part in ("key", "query", "value")}

    matches = match_orders(ours, theirs)

    assert matches.pairs["layer.1.attn.query"] == "h1_query_projection"
    assert len(matches.pairs) == 6


@pytest.mark.parametrize("words", [("q", "k"), ("left", "right")])
def test_roles_without_a_shared_word_stay_ambiguous(words):
    signature = ("dense", (4, 4))

    matches = match_orders(dict.fromkeys(("one", "two"), signature), dict.fromkeys(words, signature))

    assert not matches.pairs


def test_layers_of_one_name_and_shape_are_one_wherever_they_stand():
    ours = {"block.conv1": DENSE, "block.conv2": DENSE, "head": DENSE}
    theirs = {"module.block.conv2": DENSE, "module.block.conv1": DENSE, "module.out": DENSE}

    pairs = match_orders(ours, theirs).pairs

    assert pairs == {"block.conv1": "module.block.conv1", "block.conv2": "module.block.conv2", "head": "module.out"}


def test_kinds_of_layers_keep_unnamed_numbers_apart():
    """A Sequential's numbers say nothing of roles: a norm's are compared with norms only."""
    ours = {f"block.{i}.{part}": DENSE if part == 0 else NORM for i in range(2) for part in (0, 1)}
    theirs = {f"b{i}_{part}": DENSE if part == "fc" else NORM for i in range(2) for part in ("fc", "norm")}

    pairs = match_orders(ours, theirs).pairs

    assert pairs == {"block.0.0": "b0_fc", "block.0.1": "b0_norm", "block.1.0": "b1_fc", "block.1.1": "b1_norm"}


def test_two_comes_before_ten():
    assert sorted(["b10.x", "b2.x", "b2"], key=natural) == ["b2", "b2.x", "b10.x"]


CONV, WIDE = ("conv", (8, 8, 3, 3)), ("conv", (16, 8, 3, 3))


def test_a_layer_between_two_neighbouring_pairs_is_determined():
    """timm's conv_pw means two things; each stands between two norms that are paired."""
    ours = {"bn0": NORM, "b.conv_pw": CONV, "bn1": NORM, "b.conv_dw": CONV, "bn2": NORM, "c.conv_pw": CONV, "bn3": NORM}
    theirs = {"n.0": NORM, "expand": CONV, "n.1": NORM, "depth": CONV, "n.2": NORM, "project": CONV, "n.3": NORM}

    matches = match_orders(ours, theirs)

    assert matches.pairs["b.conv_pw"] == "expand"
    assert (matches.pairs["b.conv_dw"], matches.pairs["c.conv_pw"]) == ("depth", "project")
    assert not matches.ambiguous


def test_a_shortcut_that_is_listed_elsewhere_is_not_paired_by_its_neighbours():
    """Keras lists it before the branch, torch behind it: between the pairs the two sides differ."""
    ours = {"bn0": NORM, "conv1": CONV, "bn1": NORM, "down": CONV, "bn2": NORM}
    theirs = {"n.0": NORM, "short": CONV, "main": CONV, "n.1": NORM, "n.2": NORM}

    matches = match_orders(ours, theirs)

    assert not {"conv1", "down"} & set(matches.pairs)


def test_several_layers_between_two_pairs_are_told_by_their_shapes_alone():
    ours = {"bn0": NORM, "x.one": CONV, "y.two": CONV, "z.three": WIDE, "bn1": NORM}
    theirs = {"n.0": NORM, "p": WIDE, "q": CONV, "r": CONV, "n.1": NORM}

    matches = match_orders(ours, theirs)

    assert matches.pairs["z.three"] == "p"
    assert set(matches.ambiguous) == {"x.one", "y.two"}


def test_in_one_order_a_shape_of_its_own_is_determined_whatever_its_name():
    """timm's conv_pw is two layers of other names in the file; the words alone would pair nothing."""
    ours = {"conv1": CONV, "conv2": WIDE}
    theirs = {"alpha": CONV, "beta": WIDE}

    matches = match_orders(ours, theirs)
    with_another = match_orders(ours, {**theirs, "delta": NORM})

    assert matches.pairs == {"conv1": "alpha", "conv2": "beta"}
    assert not with_another.pairs


def test_numbers_between_two_pairs_are_paired_in_order():
    """Each settled layer is a neighbour of the next: nothing but numbers is left to decide."""
    ours = {"bn0": NORM, "a.c1": CONV, "a.c2": CONV, "mid": WIDE, "b.c1": CONV, "b.c2": CONV, "bn1": NORM}
    theirs = {"n.0": NORM, "s.x.0": CONV, "s.x.3": CONV, "w": WIDE, "t.y.0": CONV, "t.y.3": CONV, "n.1": NORM}

    matches = match_orders(ours, theirs)

    assert not matches.ambiguous
    assert [matches.pairs[name] for name in ours] == list(theirs)


@pytest.mark.parametrize("words", [("k_proj", "v_proj", "q_proj"), ("alpha", "beta", "gamma")])
def test_words_are_not_paired_by_their_order(words):
    """fairseq lists keys, values and queries, others queries, keys and values: the same shapes in one order."""
    ours = {"ln0": NORM, **{f"attn.{part}": DENSE for part in ("first", "second", "third")}, "ln1": NORM}
    theirs = {"n.0": NORM, **{f"attn.{part}": DENSE for part in words}, "n.1": NORM}

    matches = match_orders(ours, theirs)

    assert {f"attn.{part}" for part in ("first", "second", "third")} == set(matches.ambiguous)


def test_the_last_of_a_kind_is_paired_where_both_sides_have_the_same_layers():
    """A shortcut before the branch and one behind it: once words have paired it, one layer of its shape is left."""
    ours = {"in": NORM, "block.conv1": CONV, "block.shortcut": CONV, "out": WIDE}
    theirs = {"in": NORM, "b.shortcut": CONV, "b.main": CONV, "end": WIDE}

    matches = match_orders(ours, theirs)
    of_another_network = match_orders(ours, {**theirs, "b.more": DENSE})

    assert matches.pairs["block.conv1"] == "b.main"
    assert of_another_network.pairs["block.shortcut"] == "b.shortcut"
    assert of_another_network.ambiguous["block.conv1"] == ("b.main",)
