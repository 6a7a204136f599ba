"""What torch.distributed.checkpoint writes: a folder of `.distcp` files, and a `.metadata` that says what lies where.

FSDP, tensor-parallel training and torchtitan save so. Each chunk of a tensor is a small `torch.save` of its own.
Source: torch/distributed/checkpoint/metadata.py and filesystem.py.
"""

from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.pickle_machine import Machine
from regraft.containers.pickle_objects import Name, PickledRecord, checked_sizes, key_text
from regraft.containers.spans import Extents, Span, checked_size, full_extents, is_file_name, joined, mapped
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.roles import with_roles
from regraft.formats.torch_archive import TorchArchive
from regraft.formats.torch_pickle import DTYPES, KNOWN, PickledTensor, inert

_METADATA = ".metadata"
_CLASSES = (
    "metadata.Metadata", "metadata.TensorStorageMetadata", "metadata.BytesStorageMetadata", "metadata.MetadataIndex",
    "metadata.TensorProperties", "metadata.ChunkStorageMetadata", "metadata.StorageMeta", "filesystem._StorageInfo",
    "metadata._MEM_FORMAT_ENCODING",
)  # fmt: skip
_KNOWN = KNOWN | {f"torch.distributed.checkpoint.{name}": inert(name) for name in _CLASSES}
_Places = dict[tuple[str, tuple[int, ...]], Span]
_Tensor = tuple[str, tuple[int, ...], list[Extents]]  # dtype, shape, the extents of its chunks


@final
class TorchDistributed(Format):
    """A folder of torch.distributed.checkpoint (DCP), of one process or many."""

    name = "torch-distributed"
    layout = "torch"

    def recognises(self, path: Path, head: bytes) -> bool:
        """A folder with its description and at least one file of chunks."""
        return path.is_dir() and (path / _METADATA).is_file() and next(path.glob("*.distcp"), None) is not None

    def open(self, path: Path) -> Checkpoint:
        """The tensors, each put together from its chunks when it is read."""
        described = path / _METADATA
        try:
            root = Machine(mapped(described), _KNOWN).load()
            tensors, places = _tensors(root), _places(root, path)
        except CheckpointError as error:
            raise CheckpointError(f"{described}: {error}.") from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{described}: the description is damaged ({error!r:.200}).") from error
        _check(path, tensors, places)

        def read(name: str) -> np.ndarray:
            dtype, shape, chunks = tensors[name]
            try:
                return joined(shape, dtype, ((chunk, _chunk(name, chunk, dtype, places)) for chunk in chunks))
            except CheckpointError as error:
                text = str(error)
                raise error if str(path) in text else CheckpointError(f"{path}: {name} is damaged: {text}.") from error

        infos = with_roles({name: ArrayInfo(shape, dtype) for name, (dtype, shape, _) in tensors.items()})
        files = (described, *sorted({span.path for span in places.values()}))
        return Checkpoint(path, self.name, self.layout, infos, read, files)


def _tensors(root: Any) -> dict[str, _Tensor]:
    """name → (dtype, shape, the chunks' places in it); numbers and texts beside the tensors are passed over."""
    tensors = {}
    for name, record in root.state["state_dict_metadata"].items():
        if record.name != "metadata.TensorStorageMetadata":
            continue
        dtype, shape = _dtype(record.state["properties"]), _sizes(record.state["size"])
        chunks = [
            tuple(zip(_sizes(chunk.state["offsets"]), _sizes(chunk.state["sizes"]), strict=True))
            for chunk in record.state["chunks"]
        ]
        tensors[key_text(name)] = (dtype, shape, chunks)
    return tensors


def _dtype(properties: PickledRecord) -> str:
    """NumPy's word for the dtype; the properties are restored from a list that begins with it."""
    state = properties.state
    kind = state["dtype"] if isinstance(state, dict) else state[0]
    return DTYPES[(kind.text if isinstance(kind, Name) else kind.name).removeprefix("torch.")]


def _sizes(size: object) -> tuple[int, ...]:
    """The numbers of a torch.Size."""
    numbers = checked_sizes(size.arguments[0] if isinstance(size, PickledRecord) else size, "a tensor's size")
    if any(number < 0 for number in numbers):
        raise ValueError("a tensor's size is below 0")
    return numbers


def _places(root: Any, folder: Path) -> _Places:
    """(tensor, first element of the chunk) → where the chunk lies; a file outside of the folder is refused."""
    places = {}
    for index, record in root.state["storage_data"].items():
        name, start = record.state["relative_path"], index.state.get("offset")
        if record.state.get("transform_descriptors"):
            raise CheckpointError("refused, its chunks are compressed. Save it without stream transforms")
        if not isinstance(name, str) or not is_file_name(name):
            raise CheckpointError(f"refused to open {name!r:.100}: a file of chunks lies beside the description")
        span = Span(folder / name, *checked_sizes([record.state["offset"], record.state["length"]], "a chunk's place"))
        places[key_text(index.state["fqn"]), _sizes(start) if start is not None else ()] = span
    return places


def _check(path: Path, tensors: Mapping[str, _Tensor], places: _Places) -> None:
    """Raises CheckpointError unless each tensor is filled by chunks that lie in files that are there."""
    sizes = _sizes_of_files(path, {span.path for span in places.values()})
    for name, (dtype, shape, chunks) in tensors.items():
        held = [_held_bytes(places.get((name, _starts(chunk))), sizes) for chunk in chunks]
        if not all(held):
            raise CheckpointError(f"{path}: a chunk of {name} is missing or lies outside of its file. Download it.")
        filled = sum(prod(length for _, length in chunk) for chunk in chunks if full_extents(chunk, shape) is not None)
        if filled != prod(shape) or checked_size(shape, dtype, path=path, name=name) > sum(held):
            raise CheckpointError(
                f"{path}: the chunks of {name} hold {filled} of {prod(shape)} numbers. The description is damaged."
            )


def _held_bytes(span: Span | None, sizes: Mapping[Path, int]) -> int:
    """The bytes of a chunk; 0 when it is missing or lies outside of its file."""
    return span.size if span is not None and span.is_inside(sizes[span.path]) else 0


def _sizes_of_files(path: Path, files: Collection[Path]) -> dict[Path, int]:
    """The sizes of the files of chunks. Raises CheckpointError when some are missing."""
    missing = sorted(file.name for file in files if not file.is_file())
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} files of chunks are missing: {', '.join(missing[:5])}.")
    return {file: file.stat().st_size for file in files}


def _starts(chunk: Extents) -> tuple[int, ...]:
    """The chunk's first element."""
    return tuple(start for start, _ in chunk)


def _chunk(name: str, chunk: Extents, dtype: str, places: _Places) -> np.ndarray:
    """The values of one chunk. Raises CheckpointError when it holds another tensor than was told."""
    span = places[name, _starts(chunk)]
    archive = TorchArchive(span.path, span)
    tensor, shape = archive.saved, tuple(length for _, length in chunk)
    if not isinstance(tensor, PickledTensor) or (tensor.dtype, tensor.shape) != (dtype, shape):
        raise CheckpointError(f"{span.path}: {name} should be {dtype} of shape {shape} here, and is another object.")
    tensor.check(path=span.path, name=name)
    return archive.read_tensor(tensor, name)
