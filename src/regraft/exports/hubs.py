"""Folders that timm and transformers load by themselves, written by these libraries."""

from pathlib import Path
from typing import Any

from torch import nn

from regraft.errors import SaveError
from regraft.exports.exported import Exported


def write_timm(exported: Exported, folder: Path) -> None:
    """A folder for `timm.create_model("local-dir:FOLDER", pretrained=True)`, with its preparation of images.

    Raises SaveError for a model that `timm:NAME` did not build.
    """
    made_by = exported.record.model
    if made_by is None or not made_by.factory.startswith("timm:"):
        raise SaveError(f"{exported.folder} was not built by timm:NAME, so timm cannot load it. Choose another format.")
    from timm.models import save_for_hf  # the library that built the model

    model: Any = exported.model
    model.pretrained_cfg = {**model.pretrained_cfg, **_timm_preparation(exported)}
    labels = {"label_names": list(exported.record.classes)} if exported.record.classes else {}
    save_for_hf(model, str(folder), model_config=labels, model_args=made_by.args, safe_serialization=True)


def _timm_preparation(exported: Exported) -> dict[str, Any]:
    """timm's words for an input contract."""
    inputs = exported.record.inputs
    if inputs is None or inputs.size is None:
        return {}
    return {
        "input_size": [inputs.channels, *inputs.size],
        "mean": list(inputs.mean) * (inputs.channels if len(inputs.mean) == 1 else 1),
        "std": list(inputs.std) * (inputs.channels if len(inputs.std) == 1 else 1),
        "interpolation": inputs.interpolation,
        "crop_pct": inputs.crop_fraction,
        "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[inputs.resize],
    }


def write_transformers(exported: Exported, folder: Path) -> None:
    """A folder for `from_pretrained(FOLDER)`, with the class names in its config.

    Raises SaveError for a model that is none of transformers'.
    """
    model: Any = exported.model
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__ if issubclass(kind, nn.Module)}
    if "transformers.modeling_utils.PreTrainedModel" not in kinds:
        raise SaveError(f"The model of {exported.folder} is a {type(model).__name__} and no model of transformers.")
    if exported.record.classes:
        model.config.id2label = dict(enumerate(exported.record.classes))
        model.config.label2id = {name: number for number, name in enumerate(exported.record.classes)}
    model.save_pretrained(folder)
