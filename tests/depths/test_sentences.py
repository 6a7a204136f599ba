"""What is said."""

from regraft.depths.rows import ALL, INPUT, DepthRow
from regraft.depths.sentences import sentences_of

LAST = "This pass does not tell whether training the layers beats freezing them"


def row(name, kind, explained=0.5, *, is_tied=False, kept=2000):
    return DepthRow(name, kind, 0.8, 0.03, explained, -0.01, -0.05, 0.03, is_tied, kept, 0.9, 8)


def test_a_layer_is_named_with_its_ties_and_a_cheaper_one():
    """Never used to go deeper silently."""
    best = row("layer2", "layer")
    said = sentences_of([row(INPUT, "input"), best, row("layer3", "layer", is_tied=True, kept=500)], best, "accuracy")

    assert said[0] == "Freeze up to layer2: a linear head on it gives about 80 % ± 3 (accuracy)."
    assert said[1] == "1 other row is tied with it: layer3."
    assert said[2].startswith("Of the tied ones layer3 keeps least: 500 bytes per example, 90.0 % of the forward saved")
    dearer = row("layer3", "layer", is_tied=True, kept=5000)
    assert len(sentences_of([best, dearer], best, "accuracy")) == 3  # the choice, the ties, and what is not told
    assert said[-1].startswith(LAST)


def test_where_the_input_wins_the_layers_do_not_help():
    """Said in so many words."""
    best = row(INPUT, "input")
    assert "these layers do not help a frozen trunk here" in sentences_of([best], best, "accuracy")[0]


def test_all_layers_together_are_offered_with_their_call():
    """A head on several layers."""
    best = row(ALL, "all")
    assert "regraft.head_on_layers" in sentences_of([best], best, "accuracy")[0]


def test_what_explains_little_gives_no_advice():
    """And still says what is not told."""
    best = row("layer2", "layer", explained=0.06)
    said = sentences_of([best], best, "accuracy")
    assert said[0].startswith("No advice: the best of these explains 6.0 % of the labels' variance, less than 10.0 %.")
    assert said[1].startswith(LAST)
    assert len(said) == 2
