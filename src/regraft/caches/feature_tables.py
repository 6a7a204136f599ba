"""Features as an Arrow table, and back: a column for each leaf, labels, ids, and where they come from as metadata."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.caches.computing import Built, Computed
from regraft.caches.options import Options
from regraft.caches.rows import HeldRows, StoredRows
from regraft.cuts.cut import Cut, Leaf
from regraft.errors import DataError
from regraft.labels import Labels, count_of, fill_of, subset_of
from regraft.sources.arrow import tensor_of_column
from regraft.tensors.ragged import Column, Ragged, rows_of

META = b"regraft"  # in the schema's metadata: all that makes the columns features
LAYOUT = 1
ID, VIEW, LABEL = "id", "view", "label"
_AS_FLOAT32 = (torch.bfloat16, torch.float8_e5m2, torch.float8_e4m3fn)  # Arrow has no such types; float32 holds them


def table_of(computed: Computed, rows: Tensor, *, ids: Sequence[str] | None = None) -> Any:
    """A `pyarrow.Table` of some rows (count,) int64: row number = example · views + view.

    ids  a text for each example; without them the id by which a store knows the row, where there is one

    Columns: `id`, `view` where there are several, each leaf by its name as lists of one size, and `label`, or
    `label.NAME` for several. Raises DataError for leaves or labels that Arrow has no type for.
    """
    import pyarrow

    views = _views(computed)
    examples = torch.div(rows, views, rounding_mode="floor")
    held, all_ids = _held(computed, rows)
    columns: dict[str, Any] = {}
    if ids is not None:
        columns[ID] = pyarrow.array([str(ids[example]) for example in examples.tolist()], pyarrow.string())
    elif all_ids is not None:
        columns[ID] = pyarrow.array([row.tobytes().hex() for row in all_ids], pyarrow.string())
    if views > 1:
        columns[VIEW] = pyarrow.array((rows % views).numpy())
    names = [leaf.name for leaf in computed.cut.leaves]
    columns |= {_column_name(name): _arrow_column(held.columns[name], name) for name in names}
    columns |= {name: _arrow_column(column, name) for name, column in _labels(computed.labels, examples)}
    return pyarrow.table(columns).replace_schema_metadata({META: json.dumps(facts_of(computed))})


def facts_of(computed: Computed) -> dict[str, Any]:
    """All that the columns do not hold, as plain data."""
    cut, options = computed.cut, computed.options
    return {
        "layout": LAYOUT,
        "leaves": [
            {"name": leaf.name, "column": _column_name(leaf.name), "shape": list(leaf.shape),
             "dtype": str(leaf.dtype).removeprefix("torch."), "bytes": leaf.bytes_per_example,
             "varying": list(leaf.varying)}
            for leaf in cut.leaves
        ],
        "cut": {"work_saved": cut.work_saved, "note": cut.note, "row_rounding": cut.row_rounding},
        "views": _views(computed),
        "labels": _structure(computed.labels, LABEL),
        "classes": list(computed.classes),
        "key": computed.key,
        "frozen": dict(computed.frozen),
        "computed": {"batch_size": options.batch_size, "precision": options.precision, "torch": torch.__version__},
    }  # fmt: skip


def computed_from(table: Any, facts: Mapping[str, Any]) -> Computed:
    """Features from a table and its facts; columns in one piece are not copied.

    Raises DataError for facts of a later version, and for columns that are not as the facts say.
    """
    if facts.get("layout") != LAYOUT:
        raise DataError(
            f"These features were written in layout {facts.get('layout')}, and this version of regraft reads layout "
            f"{LAYOUT}. Install the version that wrote them, or a later one."
        )
    leaves = tuple(
        Leaf(leaf["name"], tuple(leaf["shape"]), getattr(torch, leaf["dtype"]), leaf["bytes"], tuple(leaf["varying"]))
        for leaf in facts["leaves"]
    )
    names = {leaf["name"]: leaf["column"] for leaf in facts["leaves"]}
    _refuse_missing(table, [*names.values(), *_names_in(facts["labels"])])
    rows = HeldRows({leaf.name: _leaf_column(table.column(names[leaf.name]), leaf) for leaf in leaves})
    views, every = int(facts["views"]), torch.arange(table.num_rows)
    positions = every.view(-1, views) if views > 1 else None
    labels = _labels_from(table.take(every[::views].numpy()) if views > 1 else table, facts["labels"])
    made = facts["computed"]
    options = Options(batch_size=made["batch_size"], precision=made["precision"])
    built = Built(0, table.num_rows, 0.0, rows.bytes)
    cut = Cut(leaves, facts["cut"]["work_saved"], True, facts["cut"]["note"], facts["cut"]["row_rounding"])
    classes = tuple(facts["classes"])
    return Computed(rows, positions, labels, cut, facts["key"], built, facts["frozen"], options, classes)


def facts_in(table: Any) -> Mapping[str, Any]:
    """The facts in a table's metadata. Raises DataError where it holds no features of regraft."""
    content = (table.schema.metadata or {}).get(META)
    if content is None:
        raise DataError(
            "The table holds no features that regraft wrote: its metadata lack them. Columns of your own are taken as "
            "an Arrow table: train(model, table)."
        )
    facts: Mapping[str, Any] = json.loads(content)
    return facts


def _views(computed: Computed) -> int:
    return 1 if computed.positions is None else computed.positions.shape[1]


def _held(computed: Computed, rows: Tensor) -> tuple[HeldRows, np.ndarray | None]:
    """The rows in memory, those of different sizes as they are, and their ids where a store knows them."""
    where = rows if computed.positions is None else computed.positions.reshape(-1)[rows]
    if isinstance(computed.rows, StoredRows):
        held = computed.rows.hold(where)
    else:
        assert isinstance(computed.rows, HeldRows), "rows lie in memory or in a store"
        whole = computed.positions is None and torch.equal(rows, torch.arange(count_of(computed.labels)))
        held = computed.rows if whole else computed.rows.select(where)
    return held, held.ids


def _column_name(leaf: str) -> str:
    """The column of a leaf: its name, where that is none of the others'."""
    is_taken = leaf in (ID, VIEW, LABEL) or leaf.startswith(f"{LABEL}.")
    return f"leaf {leaf}" if is_taken else leaf


def _arrow_column(column: Column, name: str) -> Any:
    """Lists of one size as nested lists; rows of different lengths as lists of these. Shares the tensor's memory."""
    import pyarrow

    if isinstance(column, Tensor):
        return _nested(_flat_array(column, name), list(column.shape[1:]))
    if not len(column) or not bool((column.shapes[:, 1:] == column.shapes[:1, 1:]).all()):
        raise DataError(
            f"The rows of {name} differ in more than their length, so they are no lists that Arrow knows. Keep them in "
            "the feature cache."
        )
    rows, inner = rows_of(column), column.shapes[0, 1:].tolist()
    offsets = np.concatenate([[0], column.shapes[:, 0].cumsum(0).numpy()])
    values = torch.cat([row.reshape(-1) for row in rows])
    return pyarrow.LargeListArray.from_arrays(offsets, _nested(_flat_array(values, name), inner))


def _flat_array(tensor: Tensor, name: str) -> Any:
    import pyarrow

    if tensor.is_complex():
        raise DataError(f"{name} holds complex numbers, for which Arrow has no type. Keep it in the feature cache.")
    plain = tensor.detach().cpu().contiguous()
    return pyarrow.array((plain.float() if plain.dtype in _AS_FLOAT32 else plain).numpy().reshape(-1))


def _nested(values: object, shape: Sequence[int]) -> Any:
    """Values in a line as lists of lists of these sizes."""
    import pyarrow

    for size in reversed(shape):
        values = pyarrow.FixedSizeListArray.from_arrays(values, size)
    return values


def _leaf_column(column: object, leaf: Leaf) -> Column:
    """A leaf's rows in its own dtype. Raises DataError for a column of another shape."""
    rows = _column_from(column, leaf.name, fill=0)
    rows = rows.to(leaf.dtype) if isinstance(rows, Tensor) else rows
    sizes = rows.shape[1:] if isinstance(rows, Tensor) else rows.shapes[0].tolist()
    expected = leaf.sizes
    if len(sizes) != len(expected) or any(b is not None and a != b for a, b in zip(sizes, expected, strict=True)):
        raise DataError(f"The column of {leaf.name} has rows of shape {tuple(sizes)}, expected {leaf.shape}.")
    return rows


def _column_from(column: Any, name: str, *, fill: float | None = None) -> Column:
    """A column of numbers or lists of them. Raises DataError for anything else.

    fill  what shorter lists end in; None: what stands for no label
    """
    import pyarrow

    tensor = tensor_of_column(column)
    if tensor is not None:
        return tensor
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    is_list = pyarrow.types.is_list(array.type) or pyarrow.types.is_large_list(array.type)
    values = tensor_of_column(array.flatten()) if is_list and not array.null_count else None
    if values is None:
        raise DataError(f"The column of {name} holds {column.type}, expected numbers or lists of numbers.")
    lengths = torch.from_numpy(np.diff(array.offsets.to_numpy()).astype(np.int64))
    inner = torch.tensor(values.shape[1:], dtype=torch.int64).expand(len(lengths), values.ndim - 1)
    return Ragged(
        values.reshape(-1), torch.cat([lengths[:, None], inner], 1), fill=fill_of(values) if fill is None else fill
    )


def _labels(labels: Labels, examples: Tensor) -> Iterator[tuple[str, Column]]:
    """The columns of labels of these examples, by name."""
    return _named(subset_of(labels, examples), LABEL)


def _named(labels: Labels, name: str) -> Iterator[tuple[str, Column]]:
    if isinstance(labels, Tensor | Ragged):
        yield name, labels
        return
    parts = labels.items() if isinstance(labels, Mapping) else enumerate(labels)
    for key, part in parts:
        yield from _named(part, f"{name}.{key}")


def _structure(labels: Labels, name: str) -> Any:
    """The labels with the name of its column for each."""
    if isinstance(labels, Tensor | Ragged):
        return name
    if isinstance(labels, Mapping):
        return {str(key): _structure(part, f"{name}.{key}") for key, part in labels.items()}
    return [_structure(part, f"{name}.{key}") for key, part in enumerate(labels)]


def _names_in(structure: Any) -> Iterator[str]:
    if isinstance(structure, str):
        yield structure
        return
    for part in structure.values() if isinstance(structure, Mapping) else structure:
        yield from _names_in(part)


def _labels_from(table: Any, structure: Any) -> Labels:
    if isinstance(structure, str):
        return _column_from(table.column(structure), structure)
    if isinstance(structure, Mapping):
        return {key: _labels_from(table, part) for key, part in structure.items()}
    return tuple(_labels_from(table, part) for part in structure)


def _refuse_missing(table: Any, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in table.column_names]:
        raise DataError(f"The table lacks the columns {', '.join(missing)}, which its metadata name. It is incomplete.")
