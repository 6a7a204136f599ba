"""A Keras file of the trained model: a copy of the file it came from, with the trained arrays and the new head."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from regraft.building import build_model
from regraft.containers.spans import Located
from regraft.errors import BuildError, SaveError, VerifyError
from regraft.examples import call
from regraft.exports.exported import Exported
from regraft.exports.source_arrays import SourceArrays, source_arrays
from regraft.exports.tensorflow1 import other_source, plan_of
from regraft.formats.keras import WEIGHTS_MEMBER, places_in
from regraft.foundation.wording import listed
from regraft.plan import Plan
from regraft.reading import open_checkpoint

FORMATS = ("keras", "keras-h5")
ROWS = 3  # of random inputs on which the file's network is compared with the model
RELATIVE = 1e-4  # of the largest output: float32 sums in another order
_OTHER = "Choose another format: onnx, torch-export, safetensors."


def write_keras(exported: Exported, path: Path) -> None:
    """Write a file of the source's form (.keras, .h5), which `keras.models.load_model` loads; without optimizer state.

    Verified before it is written: regraft builds the file's network and compares its outputs with the model's.

    Raises SaveError for a model that did not come from a Keras file, whose file is gone, that has layers which the file
    lacks, and without h5py; VerifyError where the file's network computes something else.
    """
    plan = plan_of(exported)
    if plan.checkpoint.format not in FORMATS:
        raise other_source(exported, plan, "a Keras file")
    source = Path(plan.checkpoint.path)
    if not source.is_file():
        raise SaveError(f"The Keras file {source} that the layers came from is not there; its description is needed.")
    if path.suffix != source.suffix:
        raise SaveError(f"The layers came from a {source.suffix} file. Write one: --out model{source.suffix}.")
    arrays = source_arrays(exported, plan)
    if arrays.new:
        raise SaveError(
            f"The model has layers that {source} lacks: {listed(list(arrays.new))}. Only a new head in the place "
            f"of the file's own can be written. {_OTHER}"
        )
    first: VerifyError | None = None
    for activation in (None, "linear") if arrays.placed else (None,):
        _write(source, path, arrays, activation)
        try:
            _verify(exported, path, arrays, plan)
        except VerifyError as error:  # the file's head ends in a softmax, and the new one gives scores
            first = first or error
        else:
            return
    path.unlink()
    assert first is not None, "a loop without return has raised"
    raise first


def _write(source: Path, path: Path, arrays: SourceArrays, activation: str | None) -> None:
    places, base = places_in(source)
    with TemporaryDirectory(dir=path.parent) as folder:
        weights = Path(folder) / "weights.h5"
        if source.suffix != ".keras":
            path.write_bytes(source.read_bytes())
            _edit_weights(path, places, base, arrays, activation)
            return
        with zipfile.ZipFile(source) as archive:
            weights.write_bytes(archive.read(WEIGHTS_MEMBER))
            others = {name: archive.read(name) for name in archive.namelist() if name != WEIGHTS_MEMBER}
        config = json.loads(others["config.json"])
        _edit_config(config, places, arrays, activation)
        others["config.json"] = json.dumps(config).encode()
        _edit_weights(weights, places, base, arrays, activation)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # as Keras does
            for name, content in others.items():
                archive.writestr(name, content)
            archive.write(weights, WEIGHTS_MEMBER)


def _edit_weights(
    file: Path, places: Mapping[str, Located], base: int, arrays: SourceArrays, activation: str | None
) -> None:
    """Write the arrays into an HDF5 file, and drop what belongs to the source's training.

    base  offset of the HDF5 file in the file that `places` are of
    """
    try:
        import h5py
    except ImportError as error:
        raise SaveError("The export to Keras needs h5py: pip install 'regraft[keras]'.") from error
    with h5py.File(file, "r+") as root:
        by_offset = {dataset.id.get_offset(): dataset for dataset in _datasets(root, h5py.Dataset)}
        for name, value in arrays.values.items():
            dataset = by_offset.get(places[name].span.offset - base) if name in places else None
            if dataset is None:
                raise SaveError(
                    f"{name} does not lie in one piece in the Keras file, so it cannot be replaced. {_OTHER}"
                )
            _replace(dataset, value)
        for group in ("optimizer", "optimizer_weights"):
            if group in root:
                del root[group]
        root.attrs.pop("training_config", None)
        if "model_config" in root.attrs:
            config = json.loads(root.attrs["model_config"])
            _edit_config(config, places, arrays, activation)
            root.attrs["model_config"] = json.dumps(config)


def _datasets(group: Any, kind: type) -> Iterator[Any]:
    for child in group.values():
        if isinstance(child, kind):
            yield child
        else:
            yield from _datasets(child, kind)


def _replace(dataset: Any, value: np.ndarray) -> None:
    """Another value, of another shape perhaps, under the same name and with the same attributes."""
    if dataset.shape == value.shape:
        dataset[...] = value
        return
    parent, name, attributes, dtype = dataset.parent, dataset.name, dict(dataset.attrs), dataset.dtype
    del parent[name]
    made = parent.create_dataset(name, data=value.astype(dtype))
    made.attrs.update(attributes)


def _edit_config(config: object, places: Mapping[str, Located], arrays: SourceArrays, activation: str | None) -> None:
    """The size of each new head, and its activation where one is given; no optimizer."""
    if isinstance(config, dict) and "compile_config" in config:
        config["compile_config"] = None
    for name in arrays.placed:
        layer, _, leaf = name.rpartition("/")
        if leaf != "kernel":
            continue
        described = [node for node in _nodes(config) if node["config"].get("name") == layer.rpartition("/")[2]]
        size = {"Dense": "units", "Conv2D": "filters"}.get(described[0]["class_name"]) if len(described) == 1 else None
        if size is None:
            raise SaveError(f"The layer {layer} of the Keras file is no single Dense or Conv2D layer. {_OTHER}")
        new = arrays.values[name].shape[-1]
        described[0]["config"][size] = new
        if activation is not None:
            described[0]["config"]["activation"] = activation
        _resize_reshapes(config, places[name].shape[-1], new)


def _resize_reshapes(config: object, old: int, new: int) -> None:
    """The shape of a layer behind the head that is its number of outputs, as MobileNet has one."""
    for node in _nodes(config):
        if node["class_name"] == "Reshape" and list(node["config"].get("target_shape", ())) == [old]:
            node["config"]["target_shape"] = [new]


def _nodes(config: object) -> Iterator[dict[str, Any]]:
    """The descriptions of all layers."""
    if isinstance(config, dict):
        if isinstance(config.get("config"), dict) and "class_name" in config:
            yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _nodes(value)


def _verify(exported: Exported, path: Path, arrays: SourceArrays, plan: Plan) -> None:
    """Raise VerifyError where the written file's network gives other outputs than the model."""
    try:
        theirs = build_model(open_checkpoint(path))
    except BuildError as error:
        slots = {name for row in plan.rows if row.status == "optimizer_slot" for name in row.sources}
        if arrays.placed or not slots.issuperset(arrays.left):
            raise VerifyError(f"The written file cannot be compared with the model: {error}\n{_OTHER}") from error
        return  # every array is the model's, and the description is the source's own
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((ROWS, *exported.known_example.shape[1:]), generator=generator)
    try:
        with torch.inference_mode():
            ours, others = call(exported.model, inputs), call(theirs, inputs)
    except (RuntimeError, TypeError) as error:
        raise VerifyError(f"The file's network does not take the model's input: {error}. {_OTHER}") from error
    if ours.shape != others.shape or not float((ours - others).abs().max()) <= RELATIVE * max(
        float(ours.abs().max()), 1
    ):
        raise VerifyError(
            f"The network of the Keras file gives other outputs than the model (shapes {tuple(others.shape)} and "
            f"{tuple(ours.shape)}): the model does something before, between or behind the layers of the file. {_OTHER}"
        )
