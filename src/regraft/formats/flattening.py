"""In which order the axes of a feature map were flattened before a dense layer, as requirements of that layer."""

from collections.abc import Sequence

from regraft.arrays import Facts

SPATIAL: dict[int, list[str]] = {1: ["w"], 2: ["h", "w"], 3: ["d", "h", "w"]}  # by the number of spatial axes
FIRST, LAST, PERMUTED = "channels_first", "channels_last", "permuted"


def flatten_facts(axes: Sequence[str], sizes: Sequence[int | None], channels: int | None) -> Facts:
    """The requirements for a map whose axes were flattened in this order.

    axes      "c" and "d", "h", "w", without the batch; others ("?") where the file leaves them open
    sizes     of these axes; empty where the file does not record them
    channels  size of "c", where it is known
    """
    spatial = SPATIAL.get(len(axes) - 1, [])
    if list(axes) == ["c", *spatial]:
        return {"flatten_order": FIRST}
    if list(axes) == [*spatial, "c"]:
        return {"flatten_order": LAST, "flatten_channels": channels} if channels else {"flatten_order": LAST}
    facts: Facts = {"flatten_order": PERMUTED}
    if sorted(axes) == sorted(["c", *spatial]):
        facts["flatten_axes"] = list(axes)
        if sizes:
            facts["flatten_sizes"] = list(sizes)
    return facts
