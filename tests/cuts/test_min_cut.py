"""Maximum flow and minimum cut."""

from regraft.cuts.min_cut import INFINITE, Flow


def test_the_flow_is_the_narrowest_way():
    """Two ways, one of them through a narrow place."""
    flow = Flow()
    for start, end, room in (("s", "a", 3), ("a", "t", 2), ("s", "b", 4), ("b", "t", 5)):
        flow.edge(start, end, room)
    assert flow.push("s", "t") == 6
    assert "a" not in flow.reaches("t")
    assert "b" in flow.reaches("t")


def test_nothing_bounds_a_way_without_a_bound():
    """There is no cut then."""
    flow = Flow()
    flow.edge("s", "a", INFINITE)
    flow.edge("a", "t", INFINITE)
    assert flow.push("s", "t") == INFINITE
