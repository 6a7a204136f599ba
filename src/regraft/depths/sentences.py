"""What the rows of an advice say in plain sentences, and what they cannot say."""

from collections.abc import Sequence

from regraft.depths.rows import DepthRow
from regraft.foundation.wording import bytes_text, counted, listed, share_text

LEAST_EXPLAINED = 0.1  # of the labels' variance: below it, random labels were answered (docs/depth.md)


def sentences_of(rows: Sequence[DepthRow], best: DepthRow, score: str) -> list[str]:
    """What the rows say, in plain sentences."""
    last = (
        "This pass does not tell whether training the layers beats freezing them, nor how deep to restore layers that "
        "are trained."
    )
    if best.explained < LEAST_EXPLAINED:
        explained = share_text(max(0.0, best.explained))
        return [
            f"No advice: the best of these explains {explained} of the labels' variance, less than "
            f"{share_text(LEAST_EXPLAINED)}. It takes more labels, or other layers.",
            last,
        ]
    return [_first(best, score), *_ties(rows, best), *_cheaper(rows, best), last]


def _first(best: DepthRow, score: str) -> str:
    value = f"about {100 * best.score:.0f} % ± {100 * best.standard_error:.0f} ({score})"
    if best.kind == "input":
        return (
            "No layer is better than the input itself: these layers do not help a frozen trunk here. A linear model on "
            f"the input gives {value}."
        )
    if best.kind == "all":
        return f"A linear head on all layers together gives {value}: regraft.head_on_layers builds it."
    return f"Freeze up to {best.name}: a linear head on it gives {value}."


def _ties(rows: Sequence[DepthRow], best: DepthRow) -> list[str]:
    tied = [row for row in rows if row.is_tied and row is not best]
    if not tied:
        return ["No other row is within its interval of about 90 %."]
    return [f"{counted(len(tied), 'other row', 'is/are')} tied with it: {listed([row.name for row in tied])}."]


def _cheaper(rows: Sequence[DepthRow], best: DepthRow) -> list[str]:
    """The tied layer that keeps least, as the user's choice."""
    tied = [row for row in rows if row.is_tied and row.kind == "layer"]
    cheaper = [row for row in tied if row.bytes_per_example < best.bytes_per_example]
    if not cheaper:
        return []
    row = min(cheaper, key=lambda each: (each.bytes_per_example, -each.work_saved))
    return [
        f"Of the tied ones {row.name} keeps least: {bytes_text(row.bytes_per_example)} per example, "
        f"{share_text(row.work_saved)} of the forward saved, at {row.interval_text.removesuffix(' tied')} points."
    ]
