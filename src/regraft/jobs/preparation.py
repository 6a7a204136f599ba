"""How a model's images are prepared, where its library or its checkpoint records it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from regraft.datasets.labelled import Labelled
from regraft.errors import JobError
from regraft.foundation.wording import toml_text
from regraft.inputs import InputContract
from regraft.jobs.job import Job
from regraft.networks.preparation import ImageInput

Values = Mapping[str, Any]  # of a configuration that another library wrote

_CROP_MODES = {"center": "crop", "squash": "squash", "border": "pad"}  # timm's words
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as transformers writes them


def refuse_unasked_preparation(
    job: Job, model: nn.Module, data: Labelled, image: ImageInput | None = None
) -> list[str]:
    """Raise JobError when the job has no [input] for images and the model's preparation is recorded: never a guess.

    Returns notes: what an [input] section does otherwise than recorded, and what images are without any.
    """
    if not data.are_images:
        return []
    if image is not None:
        return _of_network(job, image)
    source, recorded = recorded_preparation(job, model)
    if job.input is None and recorded is not None:
        raise JobError(
            f"The job has no [input] section, and {source} records how images are prepared for this model. "
            f"Add it to the job:\n{_as_section(recorded)}\n"
            "To give the model images of their own size with values from 0 to 1, add an empty section: [input]"
        )
    if job.input is None:
        return ["the job has no [input] section: images keep their own size and have values from 0 to 1"]
    return [] if recorded is None else _differences(job.input, recorded, source)


def _differences(given: InputContract, recorded: InputContract, source: str) -> list[str]:
    """A note for each of mean and std that the job gives otherwise than recorded."""
    pairs = {name: (getattr(given, name), getattr(recorded, name)) for name in ("mean", "std")}
    return [
        f"[input] {name} is {toml_text(ours)}, and {source} records {toml_text(theirs)}"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]


def _of_network(job: Job, image: ImageInput) -> list[str]:
    """As `refuse_unasked_preparation`, for a network that was built from the checkpoint, as far as that records it."""
    known = InputContract(size=image.size, channels=image.channels, flatten=image.is_flat)  # type: ignore[arg-type]  # 1 or 3
    known = replace(known, mean=(0.0,), std=(1 / 255,)) if image.is_bytes else known
    source = job.checkpoint.path
    if job.input is not None:
        return _size_differs(job.input, known, source)
    if image.is_bytes:
        raise JobError(
            f"The job has no [input] section, and the network of {source} scales values from 0 to 255 itself. "
            f"Add this section to the job:\n{_as_section(known)}"
        )
    raise JobError(
        f"The job has no [input] section, and {source} does not record how the values of images were scaled for the "
        f"network. Add this section to the job, with the mean and std of the training (of values from 0 to 1):\n"
        f"{_as_section(known)}\nmean = 0.5  # 0.5 and 0.5 give values from -1 to 1, 0 and 1 from 0 to 1\nstd = 0.5"
    )


def _size_differs(given: InputContract, known: InputContract, source: str) -> list[str]:
    """Notes on what the job gives otherwise than the network records."""
    notes = []
    if known.size is not None and given.size != known.size and not known.flatten:  # a vector records its length alone
        notes.append(f"[input] size is {toml_text(given.size)}, and {source} records {toml_text(known.size)}")
    if known.std != (1.0,) and (given.mean, given.std) != (known.mean, known.std):
        notes.append(f"[input] mean and std give no values from 0 to 255, which the network of {source} scales itself")
    return notes


def recorded_preparation(job: Job, model: nn.Module) -> tuple[str, InputContract | None]:
    """Who records the preparation, and what; None where nobody does, or not in a form that is known here."""
    home, _, name = job.model.factory.partition(":")
    checkpoint = job.path(job.checkpoint.path)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    hub = _json_of(folder / "config.json").get("pretrained_cfg") or {}
    sources: list[tuple[str, Callable[[], InputContract | None]]] = [
        ("timm", lambda: _of_timm(getattr(model, "pretrained_cfg", None) or {})),
        (str(folder / "config.json"), lambda: _of_timm(hub)),
        (
            str(folder / "preprocessor_config.json"),
            lambda: _of_transformers(_json_of(folder / "preprocessor_config.json")),
        ),
        ("torchvision", lambda: _of_torchvision(name) if home == "torchvision" else None),
    ]
    for source, read in sources:
        try:
            contract = read()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # another version's form
            continue
        if contract is not None:
            return source, contract
    return "", None


def _of_timm(config: Values) -> InputContract | None:
    """timm's `pretrained_cfg`."""
    if not config.get("mean"):
        return None
    channels, height, width = config["input_size"]
    return InputContract(
        size=(height, width),
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        resize=_CROP_MODES[config.get("crop_mode") or "center"],  # type: ignore[arg-type]  # checked by the contract
        crop_fraction=float(config.get("crop_pct") or 0.875),
        channels=channels,
        interpolation=config.get("interpolation") or "bilinear",
    )


def _of_transformers(config: Values) -> InputContract | None:
    """transformers' `preprocessor_config.json`."""
    if not config.get("image_mean"):
        return None
    crop = config["crop_size"] if config.get("do_center_crop") else None
    size = _sides(crop or config["size"])
    short = config["size"].get("shortest_edge", 0) if isinstance(config["size"], dict) else int(config["size"])
    return InputContract(
        size=size,
        mean=tuple(map(float, config["image_mean"])),
        std=tuple(map(float, config["image_std"])),
        resize="crop" if crop else "squash",
        crop_fraction=min(size) / short if crop and short else 1.0,
        interpolation=_RESAMPLING[config.get("resample", 2)],  # type: ignore[arg-type]  # checked by the contract
    )


def _sides(size: Any) -> tuple[int, int]:
    """Height and width of transformers' forms of a size."""
    if isinstance(size, int):
        return size, size
    edge = size.get("shortest_edge")
    return (edge, edge) if edge else (size["height"], size["width"])


def _of_torchvision(name: str) -> InputContract | None:
    """The preset of a torchvision model's default weights, which are not downloaded."""
    from torchvision import models

    preset: Any = models.get_model_weights(name).DEFAULT.transforms()
    size, short = preset.crop_size[0], preset.resize_size[0]
    return InputContract(
        size=(size, size),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        resize="crop",
        crop_fraction=size / short,
        interpolation=preset.interpolation.value,
    )


def _json_of(path: Path) -> Values:
    """The object in a JSON file; an empty one where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _as_section(contract: InputContract) -> str:
    """The [input] section that gives this contract."""
    default = InputContract()
    keys = [field.name for field in fields(contract) if getattr(contract, field.name) != getattr(default, field.name)]
    return "\n".join(["[input]", *(f"{key} = {toml_text(getattr(contract, key))}" for key in keys)])
