"""Darknet's `.cfg`: the layers of a network in order, their arrays' shapes, and how they are connected.

Source: pjreddie/darknet, src/parser.c (sections, `load_weights`), and src/convolutional_layer.c and src/maxpool_layer.c
(sizes).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from regraft.arrays import Facts, Requirement, requirements_for
from regraft.errors import CheckpointError

Map = tuple[int, int, int]  # channels, height, width

_LARGEST_CFG = 1 << 16  # bytes; YOLOv4's has 12,000
_LARGEST_SIDE = 1 << 31
_UNREAD = ("share_index", "antialiasing", "deform", "flipped", "dontload", "dontloadscales", "reverse")
_READ = frozenset({
    "convolutional", "connected", "maxpool", "avgpool", "route", "shortcut", "upsample", "reorg",
    # these give a map of the size that they take
    "dropout", "softmax", "soft", "cost", "yolo", "region", "detection", "logistic", "activation", "l2norm",
})  # fmt: skip
_SHORT = {"conv": "convolutional", "conn": "connected", "max": "maxpool", "avg": "avgpool"}
_ACTIVATIONS = {"leaky": "leaky_relu(0.1)", "logistic": "sigmoid"}


@dataclass(frozen=True)
class Section:
    """One section of the file: what stands in brackets, and its settings."""

    kind: str
    settings: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, default: int) -> int:
        """A whole number. Raises ValueError for other text."""
        return _number(self.settings.get(name, str(default)))

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers, with commas between them."""
        return [_number(part) for part in self.settings.get(name, "").split(",") if part.strip()]

    def unread(self) -> str:
        """What the section holds that is not read; "" for nothing."""
        if self.kind not in _READ:
            return f"[{self.kind:.40}]"
        if self.settings.get("weights_type", "none") != "none":
            return "weights_type"
        if self.number("dilation", 1) != 1:
            return "dilation"
        return next((name for name in _UNREAD if self.number(name, 0)), "")

    @property
    def activation(self) -> str:
        """The word for the activation; "linear" for none."""
        word = self.settings.get("activation", "logistic" if self.kind in ("convolutional", "connected") else "linear")
        return _ACTIVATIONS.get(word, word)

    @property
    def is_normalised(self) -> bool:
        """Whether a batch-norm follows."""
        return self.number("batch_normalize", 0) != 0


@dataclass(frozen=True)
class DarknetArray:
    """One array of the `.weights` file."""

    layer: str
    layer_type: str
    leaf: str
    shape: tuple[int, ...]


@dataclass
class DarknetNetwork:
    """What a `.cfg` describes.

    stored  the arrays in the order of the `.weights` file
    wiring  settings and connections of all layers
    """

    stored: list[DarknetArray] = field(default_factory=list)
    wiring: list[Requirement] = field(default_factory=list)


def read_darknet_network(path: Path, layers: int | None = None) -> DarknetNetwork:
    """The first layers of a `.cfg`, or all.

    Raises CheckpointError that names the file when it is damaged or holds a layer that is not read.
    """
    try:
        if path.stat().st_size > _LARGEST_CFG:
            raise ValueError("it is longer than 64 KiB")
        net, *sections = _sections(path.read_text("utf-8", errors="replace"))
        return _Builder((net.number("channels", 0), net.number("height", 0), net.number("width", 0))).network(
            sections[:layers]
        )
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: the network cannot be read ({error}).") from error


def _number(text: str) -> int:
    text = text.strip()
    if len(text) > 9:
        raise ValueError(f"{text!r:.40} is no size")
    return int(text)


def _sections(text: str) -> list[Section]:
    sections: list[Section] = []
    for line in (raw.strip() for raw in text.splitlines()):
        if line.startswith("["):
            kind = line.strip("[]").strip()
            sections.append(Section(_SHORT.get(kind, kind)))
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            if not sections:
                break
            sections[-1].settings[name.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise ValueError("it does not begin with [net]")
    return sections


class _Builder:
    """The layers so far: what each gives, and its name as others take it."""

    def __init__(self, entry: Map) -> None:
        self.entry = entry
        self.maps: list[Map] = []
        self.labels: list[str] = []
        self.result = DarknetNetwork()
        self.kinds: dict[str, Callable[[Section, str, Map], Map]] = {
            "convolutional": self._convolutional, "connected": self._connected, "maxpool": self._maxpool,
            "avgpool": self._avgpool, "route": self._route, "shortcut": self._shortcut, "upsample": self._upsample,
            "reorg": self._reorg,
        }  # fmt: skip

    def network(self, sections: list[Section]) -> DarknetNetwork:
        """All layers, in order."""
        for index, section in enumerate(sections):
            unread = section.unread()
            if unread:
                raise ValueError(f"layer {index}: {unread} is not read")
            before = self.maps[-1] if index else self.entry
            self.labels.append(self.labels[-1] if index else "")
            after = before
            if section.kind in self.kinds:
                after = self.kinds[section.kind](section, f"{section.kind}_{index}", before)
            if min(after) < 1 or max(after) > _LARGEST_SIDE:
                raise ValueError(f"layer {index}: no map has the sizes that it gives")
            self.maps.append(after)
        return self.result

    def _step(self, name: str, operation: str, facts: Facts, inputs: list[str] | None = None) -> None:
        """Add what a layer does; what follows takes its output."""
        self.result.wiring += [
            Requirement(name, "inputs", self.labels[-1:] if inputs is None else inputs),
            Requirement(name, "operation", operation),
            *requirements_for(name, facts),
        ]
        self.labels[-1] = name

    def _weights(self, section: Section, name: str, kind: str, shape: tuple[int, ...], facts: Facts) -> None:
        """A layer with a kernel: bias, batch-norm and kernel in Darknet's order."""
        outputs, norm = shape[0], name.replace(section.kind, "batch_norm")
        statistics = ("weight", "running_mean", "running_var") if section.is_normalised else ()
        normed = [DarknetArray(norm, "BatchNorm", leaf, (outputs,)) for leaf in statistics]
        bias = DarknetArray(*((norm, "BatchNorm") if section.is_normalised else (name, kind)), "bias", (outputs,))
        kernel = DarknetArray(name, kind, "weight", shape)
        # convolutional: bias, norm, kernel; connected: bias, kernel, norm
        self.result.stored += [bias, *normed, kernel] if kind == "Conv" else [bias, kernel, *normed]
        own: Facts = {} if section.is_normalised else {"activation": section.activation}
        self._step(name, kind, {**facts, "use_bias": not section.is_normalised, **own})
        if section.is_normalised:
            self._step(norm, "BatchNorm", {})
            self._activated(section, name)

    def _activated(self, section: Section, name: str) -> None:
        if section.activation != "linear":
            self._step(f"{name} ({section.activation})", "Activation", {"activation": section.activation})

    def _convolutional(self, section: Section, name: str, before: Map) -> Map:
        size, groups, filters = section.number("size", 1), section.number("groups", 1), section.number("filters", 1)
        strides = [section.number(f"stride_{axis}", section.number("stride", 1)) for axis in "yx"]
        pad = size // 2 if section.number("pad", 0) else section.number("padding", 0)
        facts: Facts = {"strides": strides, "padding": [[pad, pad], [pad, pad]], "groups": groups}
        self._weights(section, name, "Conv", (filters, before[0] // groups, size, size), facts)
        height, width = (
            (length + 2 * pad - size) // step + 1 for length, step in zip(before[1:], strides, strict=True)
        )
        return filters, height, width

    def _connected(self, section: Section, name: str, before: Map) -> Map:
        outputs, (channels, height, width) = section.number("output", 1), before
        facts: Facts = {}
        if height * width > 1:
            facts = {"flatten_order": "channels_first", "flatten_channels": channels}
        self._weights(section, name, "Dense", (outputs, channels * height * width), facts)
        return outputs, 1, 1

    def _maxpool(self, section: Section, name: str, before: Map) -> Map:
        stride = section.number("stride", 1)
        size = section.number("size", stride)
        added = section.number("padding", size - 1)
        sides = [added // 2, added - added // 2]
        facts: Facts = {
            "pool": "max",
            "pool_size": [size, size],
            "strides": [stride, stride],
            "padding": [sides, sides],
        }
        self._step(name, "MaxPooling2D", facts)
        return before[0], (before[1] + added - size) // stride + 1, (before[2] + added - size) // stride + 1

    def _avgpool(self, section: Section, name: str, before: Map) -> Map:
        self._step(name, "GlobalAveragePooling2D", {})
        return before[0], 1, 1

    def _others(self, section: Section, name: str) -> list[int]:
        """The numbers of the layers that a layer names: counted from the first, or back from itself."""
        here = len(self.maps)
        numbers = [number + here if number < 0 else number for number in section.numbers(name)]
        if not numbers or not all(0 <= number < here for number in numbers):
            raise ValueError(f"layer {here}: {name} names no layer before it")
        return numbers

    def _route(self, section: Section, name: str, before: Map) -> Map:
        others, groups = self._others(section, "layers"), section.number("groups", 1)
        inputs = [self.labels[number] for number in others]
        channels = sum(self.maps[number][0] // groups for number in others)
        if groups > 1:
            self._step(name, "Split", {}, inputs)
        elif len(inputs) > 1:
            self._step(name, "Concatenate", {}, inputs)
        else:
            self.labels[-1] = inputs[0]
        return channels, *self.maps[others[0]][1:]

    def _shortcut(self, section: Section, name: str, before: Map) -> Map:
        self._step(
            name, "Add", {}, [self.labels[-1], *(self.labels[number] for number in self._others(section, "from"))]
        )
        self._activated(section, name)
        return before

    def _upsample(self, section: Section, name: str, before: Map) -> Map:
        self._step(name, "UpSampling2D", {})
        stride = section.number("stride", 2)
        return before[0], before[1] * stride, before[2] * stride

    def _reorg(self, section: Section, name: str, before: Map) -> Map:
        self._step(name, "Reorg", {})
        stride = section.number("stride", 1)
        return before[0] * stride * stride, before[1] // stride, before[2] // stride
