"""Values that converters change, not only axes: rows of queries and keys in another rotary order, norms kept as 1 + w.

Their shapes show nothing, so that the user decides: a word of `adapt` puts them right.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import Advice
from regraft.plans.adapting import in_turn
from regraft.plans.rows import Row
from regraft.plans.sources import Sources

# Meta's own Llama, whose names its descendants keep, turns neighbouring pairs of rows; transformers turns two halves.
_METAS = re.compile(r"(?:.*\.)?layers\.\d+\.attention\.w[qk]\.(?:weight|bias)")
ANSWERS = ("rotary", "interleaved", "minus", "plus", "as stored")


def doubt_values(rows: Sequence[Row], sources: Sources, settled: Mapping[str, str]) -> tuple[Row, ...]:
    """The rows, where an array that a converter is known to change is a problem until the user decides.

    settled   array → the method of `adapt` that the user chose for it
    """
    return tuple(
        row
        if not row.is_reused or row.target is None or not row.sources or _is_settled(settled.get(row.name, ""))
        else _doubted(row, sources)
        for row in rows
    )


def _is_settled(method: str) -> bool:
    return any(words.startswith(ANSWERS) for words in in_turn(method))


def _doubted(row: Row, sources: Sources) -> Row:
    facts = sources.facts_of(row.sources[:1])
    are_metas = [_METAS.fullmatch(name) is not None for name in (row.sources[0], row.name)]
    heads = facts.get("num_heads") or "HEADS"
    if facts.get("row_order") == "rotary" or (are_metas[0] and not are_metas[1]):
        note = (
            "Its rows are in the order of an interleaved rotary embedding (Meta's, llama.cpp's). transformers and most "
            "other models turn two halves of each head."
        )
        return _open(row, note, f"rotary {heads} heads", "put the rows in the order of two halves")
    if are_metas[1] and not are_metas[0]:
        note = (
            "Its rows may be in the order of two halves of each head (transformers'); Meta's names turn pairs of rows."
        )
        return _open(row, note, f"interleaved {heads} heads", "put the rows in the order of pairs")
    offset = facts.get("norm_offset")
    if isinstance(offset, int | float) and offset:
        note = (
            f"The converter has added {offset:g} to this norm: models of this kind keep the rest and add it themselves."
        )
        return _open(row, note, f"minus {offset:g}", f"subtract {offset:g}, as the original model keeps it")
    return row


def _open(row: Row, note: str, method: str, effect: str) -> Row:
    advice = (
        Advice("adapt", {row.name: method}, effect),
        Advice("adapt", {row.name: "as stored"}, "keep the values as they are, where the model has the file's order"),
    )
    return replace(row, status="undecidable_orientation", note=note, advice=advice)
