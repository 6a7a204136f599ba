"""Charts of predicted numbers."""

from regraft.reports.scatter import scatter


def test_equal_values_lie_on_the_diagonal():
    """And far ones do not; every dot says its numbers."""
    chart = scatter("age", [0.0, 50.0, 100.0], [0.0, 50.0, 20.0])
    first, second, third = chart.dots
    assert chart.diagonal == f"M{first.x} {first.y}L{chart.x_ticks[-1].at} {chart.y_ticks[-1].at}"
    assert (second.x - first.x) / (third.x - first.x) == 0.5
    assert third.y > second.y  # SVG counts downwards
    assert third.label == "age: true 100, predicted 20"


def test_every_residual_is_in_a_bar():
    """The axis is symmetric around 0."""
    chart = scatter("age", [0.0] * 5, [-2.0, 0.0, 0.1, 2.0, 2.0])
    assert sum(int(bar.label.split()[0]) for bar in chart.bars) == 5
    assert chart.zero == (chart.bar_ticks[0].at + chart.bar_ticks[-1].at) / 2


def test_a_perfect_model_and_a_single_value_can_be_drawn():
    """Nothing is divided by 0."""
    assert len(scatter("age", [3.0, 3.0], [3.0, 3.0]).bars) == 1


def test_of_many_examples_some_are_drawn():
    """A page of a million dots cannot be opened."""
    values = [float(value) for value in range(5000)]
    assert len(scatter("age", values, values).dots) <= 600
