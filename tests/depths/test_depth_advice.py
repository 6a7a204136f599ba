"""The advice as a value."""

import json

from regraft.depths.depth_advice import DepthAdvice
from regraft.depths.rows import ALL, INPUT, DepthRow


def advice(choice="layer1"):
    rows = (
        DepthRow(INPUT, "input", 0.4, 0.05, 0.2, -0.4, -0.5, -0.3, False, 3136, 0.0, 784),
        DepthRow("layer1", "layer", 0.8, 0.04, 0.6, 0.0, 0.0, 0.0, False, 360, 0.7, 90, 0.5),
        DepthRow(ALL, "all", 0.78, 0.04, 0.6, -0.02, -0.1, 0.06, True, 360, 0.7, 90),
    )
    return DepthAdvice(
        100, 5, "accuracy", 0.2, rows, choice, ("input of layer2",), ("Freeze up to layer1.", "Not more.")
    )


def test_it_prints_as_a_table_with_bars_and_sentences():
    """The choice is marked; chance is a mark in each bar."""
    text = str(advice())

    lines = text.splitlines()
    assert lines[0].startswith("100 labelled examples: an exact linear head")
    (chosen,) = [line for line in lines if line.startswith("→")]
    assert "80.0 ± 4.0" in chosen
    assert "█" * 5 + "┊" in chosen
    assert "50.0" in chosen
    assert "360 bytes" in chosen
    assert "-2.0 [-10.0, +6.0] tied" in text
    assert lines[-2:] == ["Freeze up to layer1.", "Not more."]
    assert advice().chosen.name == "layer1"
    assert advice(None).chosen is None


def test_it_is_plain_data_and_a_page():
    """For JSON and for a notebook."""
    told = json.loads(json.dumps(advice().to_dict()))
    assert told["choice"] == "layer1"
    assert told["rows"][1]["shuffled"] == 0.5
    page = advice()._repr_html_()
    assert page.startswith("<figure")
    assert "<svg" in page
    assert "<p>Not more.</p>" in page
