"""Prints what a checkpoint holds, from its directory alone."""

import json

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.foundation.wording import bytes_text, one_line, shape_text


def as_table(checkpoint: Checkpoint) -> str:
    """A heading and one line an array: name, shape, dtype, role; then the reader's notes."""
    infos = dict(checkpoint)
    shapes = {shape: shape_text(shape) for shape in {info.shape for info in infos.values()}}
    name_width = max(map(len, infos), default=0)
    shape_width = max(map(len, shapes.values()), default=0)
    lines = [
        f"{name:<{name_width}}  {shapes[info.shape]:<{shape_width}}  {info.dtype}{_remarks(info)}"
        for name, info in infos.items()
    ]
    facts = [f"{need.layer}: {need.attribute} = {need.value}" for need in checkpoint.requirements]
    notes = [f"note: {note}" for note in checkpoint.notes]
    return "\n".join(map(one_line, [_heading(checkpoint), *lines, *facts, *notes]))


def _heading(checkpoint: Checkpoint) -> str:
    """Path, format, layout and totals."""
    layout = checkpoint.layout or "not recorded in the file"
    values = sum(info.count for info in checkpoint.values())
    size = bytes_text(sum(info.size_bytes for info in checkpoint.values()))
    return (
        f"{checkpoint.path}: {checkpoint.format}, layout {layout}, {len(checkpoint)} arrays, {values:,} values, {size}"
    )


def _remarks(info: ArrayInfo) -> str:
    """The role of what is no weight, and the reader's note."""
    role = "" if info.role == "weight" else f"  {info.role}"
    return f"{role}  ({info.note})" if info.note else role


def as_text(checkpoint: Checkpoint) -> str:
    """The same as JSON."""
    return json.dumps(
        {
            "path": str(checkpoint.path),
            "format": checkpoint.format,
            "layout": checkpoint.layout,
            "arrays": {
                name: {"shape": info.shape, "dtype": info.dtype, "role": info.role, "layer_type": info.layer_type,
                       "note": info.note}
                for name, info in checkpoint.items()
            },
            "requirements": [vars(need) for need in checkpoint.requirements],
            "files": [str(path) for path in checkpoint.files],
            "notes": checkpoint.notes,
        },
        indent=1,
    )  # fmt: skip
