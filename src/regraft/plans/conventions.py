"""Values that converters change, not only axes: rows of queries and keys in another rotary order, norms kept as 1 + w.

Their shapes show nothing, so that the user decides: a word of `adapt` puts them right.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from regraft.errors import Advice
from regraft.plans.adapting import in_turn
from regraft.plans.layers import Layer
from regraft.plans.rows import Row
from regraft.plans.sources import Sources

# Meta's own Llama, whose names its descendants keep, turns neighbouring pairs of rows; transformers turns two halves.
_METAS = re.compile(r"(?:.*\.)?layers\.\d+\.attention\.w[qk]\.(?:weight|bias)")
# Queries, keys, values in one projection: head by head (GPT-NeoX, BLOOM, Megatron, InternLM), or one after the other.
_BY_HEADS = re.compile(r"(?:.*\.)?(?:query_key_value|wqkv)\.(?:weight|bias)")
_JOINED = re.compile(r"(?:.*\.)?(?:qkv|Wqkv|qkv_proj|to_qkv|c_attn|in_proj)(?:\.|_)(?:weight|bias)")
ANSWERS = ("rotary", "interleaved", "minus", "plus", "parts first", "heads first", "as stored")


def doubt_values(
    rows: Sequence[Row], sources: Sources, settled: Mapping[str, str], layers: Mapping[str, Layer]
) -> tuple[Row, ...]:
    """The rows, where an array that a converter is known to change is a problem until the user decides.

    settled   array → the method of `adapt` that the user chose for it
    layers    array → its layer
    """
    return tuple(
        row
        if not row.is_reused or row.target is None or not row.sources or _is_settled(settled.get(row.name, ""))
        else _without_average(row, sources, layers[row.name]) or _doubted(row, sources)
        for row in rows
    )


def _without_average(row: Row, sources: Sources, layer: Layer) -> Row | None:
    """The problem of a weight that would be filled raw although averages are requested; statistics have none."""
    is_buffer = layer.arrays[row.name.removeprefix(layer.full(""))].is_buffer
    if is_buffer or sources.raw.isdisjoint(row.sources):
        return None
    note = "The checkpoint has moving averages, and none of this weight."
    advice = (
        Advice("adapt", {row.name: "as stored"}, "take the weight itself"),
        Advice("fresh", [row.name], "keep the initial weights"),
    )
    return replace(row, status="ambiguous", note=note, advice=advice)


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
    if _is_rejoined(row):
        note = (
            "It joins queries, keys and values: under the one name most models join them head by head, under the other "
            "one after the other."
        )
        first = "parts" if _BY_HEADS.fullmatch(row.sources[0]) else "heads"
        return _open(row, note, f"{first} first of 3 in HEADS heads", f"put the rows {first} first")
    offset = facts.get("norm_offset")
    if isinstance(offset, int | float) and offset:
        note = (
            f"The converter has added {offset:g} to this norm: models of this kind keep the rest and add it themselves."
        )
        return _open(row, note, f"minus {offset:g}", f"subtract {offset:g}, as the original model keeps it")
    return row


def _is_rejoined(row: Row) -> bool:
    """Whether a projection that joins head by head fills one that joins part by part, or the other way round."""
    names = (row.sources[0], row.name)
    return any(_BY_HEADS.fullmatch(a) and _JOINED.fullmatch(b) for a, b in (names, names[::-1]))


def _open(row: Row, note: str, method: str, effect: str) -> Row:
    advice = (
        Advice("adapt", {row.name: method}, effect),
        Advice("adapt", {row.name: "as stored"}, "keep the values as they are, where the model has the file's order"),
    )
    return replace(row, status="undecidable_orientation", note=note, advice=advice)
