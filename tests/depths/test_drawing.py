"""The chart."""

from xml.etree import ElementTree

from regraft.depths.drawing import chart_of
from regraft.depths.rows import ALL, INPUT, DepthRow


def row(name, kind, score, *, is_tied=False, shuffled=None):
    return DepthRow(name, kind, score, 0.03, 0.5, 0.0, -0.1, 0.1, is_tied, 2000, 0.5, 8, shuffled)


def test_every_layer_has_its_dot_and_the_lines_are_there():
    """Names are escaped; the chart is well-formed."""
    layers = [row(f"layer<{n}>", "layer", 0.5 + n / 10, is_tied=n == 1, shuffled=0.3) for n in range(3)]
    text = chart_of([row(INPUT, "input", 0.4), *layers, row(ALL, "all", 0.9)], "layer<2>", score="accuracy", chance=0.2)

    svg = ElementTree.fromstring(text)

    circles = list(svg.iter("circle"))
    assert [circle.get("r") for circle in circles] == ["3.2", "3.2", "5"]
    words = [element.text for element in svg.iter("text")]
    assert {"input 40 %", "all layers 90 %", "chance 20 %", "→ layer<2>"} <= set(words)
    assert words.count("2.0 kB · 50.0 % saved") == 3
    assert len(list(svg.iter("polyline"))) == 2  # shuffled weights and the scores
    assert len(list(svg.iter("polygon"))) == 1


def test_scores_below_the_axis_lie_at_its_border():
    """An explained part may be far below 0."""
    text = chart_of([row(INPUT, "input", -9.0), row("a", "layer", -9.0)], "a", score="explained", chance=0.0)
    assert "nan" not in text
    assert list(ElementTree.fromstring(text).iter("circle"))
