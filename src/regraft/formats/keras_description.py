"""The description of a model in Keras' files: its JSON as a tree of layers, and the version that wrote it."""

import json
from dataclasses import dataclass
from pathlib import Path

from regraft.containers.hdf5.tree import opened
from regraft.containers.json_text import json_value
from regraft.containers.spans import Span, whole_file
from regraft.containers.zip_archive import ZipArchive
from regraft.formats.keras_config import KerasLayer, read_config


@dataclass(frozen=True)
class KerasDescription:
    """A model as Keras describes it. `version` is that of the Keras that wrote it, "" where the file has none."""

    model: KerasLayer
    version: str = ""


def keras_description(path: Path, format: str) -> KerasDescription | None:
    """What the file of this format describes; None when it holds weights alone.

    format  "keras", "keras-h5" or "tfjs"
    """
    text, version = {"keras": _of_archive, "keras-h5": _of_hdf5, "tfjs": _of_json}[format](path)
    return KerasDescription(read_config(text, path), version) if text else None


def _of_archive(path: Path) -> tuple[str, str]:
    archive = ZipArchive(path)
    config = archive.read(archive.members["config.json"]).decode("utf-8", "replace")
    about = archive.members.get("metadata.json")
    metadata = json.loads(archive.read(about)) if about else {}
    return config, str(metadata.get("keras_version", ""))


def _of_hdf5(path: Path) -> tuple[str, str]:
    with opened(Span(path, 0, path.stat().st_size)) as root:
        version = root.text("keras_version") or ""
        group = root.child("model_weights")
        if not version and group is not None:
            version = group.text("keras_version") or ""
        return root.text("model_config") or "", version


def _of_json(path: Path) -> tuple[str, str]:
    content = json_value(whole_file(path).read(), path)
    topology = content.get("modelTopology") if isinstance(content, dict) else None
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    if not isinstance(topology, dict) or not isinstance(config, dict) or "class_name" not in config:
        return "", ""
    return json.dumps(config), str(topology.get("keras_version", ""))
