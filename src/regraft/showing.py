"""Prints what a checkpoint holds, from its directory alone."""

import json

from regraft.arrays import Checkpoint


def as_table(checkpoint: Checkpoint) -> str:
    """A heading and one line an array: name, shape, dtype, role; then the reader's notes."""
    infos = dict(checkpoint)
    shapes = {shape: _shape(shape) for shape in {info.shape for info in infos.values()}}
    heading = (
        f"{checkpoint.path}: {checkpoint.format}, layout {checkpoint.layout or 'not told by the file'}, "
        f"{len(infos)} arrays, {sum(info.count for info in infos.values()):,} values, "
        f"{readable_bytes(sum(info.size_bytes for info in infos.values()))}"
    )
    name_width = max(map(len, infos), default=0)
    shape_width = max(map(len, shapes.values()), default=0)
    lines = [
        f"{name:<{name_width}}  {shapes[info.shape]:<{shape_width}}  {info.dtype}"
        + ("" if info.role == "weight" else f"  {info.role}")
        + (f"  ({info.note})" if info.note else "")
        for name, info in infos.items()
    ]
    facts = [f"{need.layer}: {need.attribute} = {need.value}" for need in checkpoint.requirements]
    return "\n".join([heading, *lines, *facts, *(f"note: {note}" for note in checkpoint.notes)])


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


def readable_bytes(count: float) -> str:
    """Bytes in the unit that a person would choose.

    >>> readable_bytes(1536)
    '1.5 KiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "scalar"
