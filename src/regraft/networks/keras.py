"""The network of a Keras file, of its configuration: functional and sequential, models in models, shared layers."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from regraft.arrays import Checkpoint
from regraft.formats.keras_config import KerasLayer
from regraft.formats.keras_description import KerasDescription, keras_description
from regraft.networks import keras_convolutions as convolutions
from regraft.networks import keras_norms as norms
from regraft.networks import keras_recurrent as recurrent
from regraft.networks import keras_shapes as shapes
from regraft.networks.keras_activations import ACTIVATION_LAYERS
from regraft.networks.keras_builder import KerasBuilder, LayerCall, RefusedError
from regraft.networks.keras_calls import CallOutput, KerasCall, calls_of, outer_tensors
from regraft.networks.keras_operations import operation
from regraft.networks.network import Network, NetworkInput, Untranslated

MODELS = frozenset({"Functional", "Model", "Sequential"})
Translation = Callable[[LayerCall], str | tuple[str, ...]]


def _each(translation: Translation, *names: str) -> dict[str, Translation]:
    return dict.fromkeys(names, translation)


def _ranks(stem: str, ranks: str = "123") -> list[str]:
    return [stem.replace("#", rank) for rank in ranks]


def _refusal(reason: str) -> Translation:
    """The translation of a class that is refused."""

    def refuse(call: LayerCall) -> str:
        raise RefusedError(reason)

    return refuse


TRANSLATIONS: Mapping[str, Translation] = {
    **_each(convolutions.conv, *_ranks("Conv#D"), *_ranks("Convolution#D")),
    **_each(convolutions.depthwise, *_ranks("DepthwiseConv#D", "12")),
    **_each(convolutions.separable, *_ranks("SeparableConv#D", "12")),
    **_each(convolutions.conv_transpose, *_ranks("Conv#DTranspose")),
    **_each(convolutions.dense, "Dense"),
    **_each(convolutions.zero_padding, *_ranks("ZeroPadding#D")),
    **_each(convolutions.cropping, *_ranks("Cropping#D")),
    **_each(convolutions.upsampling, *_ranks("UpSampling#D")),
    **_each(convolutions.pooling, *_ranks("MaxPooling#D"), *_ranks("AveragePooling#D")),
    **_each(convolutions.global_pooling, *_ranks("GlobalMaxPooling#D"), *_ranks("GlobalAveragePooling#D")),
    "BatchNormalization": norms.batch_norm,
    "LayerNormalization": norms.layer_norm,
    "GroupNormalization": norms.group_norm,
    "RMSNormalization": norms.rms_norm,
    "UnitNormalization": norms.unit_norm,
    "Embedding": norms.embedding,
    "Rescaling": norms.rescaling,
    "Normalization": norms.normalization,
    "PReLU": norms.prelu,
    "LayerScale": norms.layer_scale,
    "CustomScaleLayer": norms.custom_scale,
    **_each(norms.activation, "Activation", *ACTIVATION_LAYERS),
    "Dropout": norms.dropout,
    **_each(
        norms.training_only, "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise",
        "GaussianDropout", "AlphaDropout", "ActivityRegularization", "StochasticDepth", "RandomFlip", "RandomRotation",
        "RandomZoom", "RandomContrast", "RandomTranslation", "RandomBrightness",
    ),
    "Identity": lambda call: call.x,
    "Dot": shapes.dot,
    "Lambda": _refusal("its function is code of Python, which is not run: use a layer of Keras in its place"),
    "Masking": _refusal("it hides steps from the layers behind it: leave it out and pass sequences without padding"),
    **_each(_refusal("torch has no such layer"), *_ranks("ConvLSTM#D"), "AdditiveAttention"),
    **_each(shapes.join, "Add", "Multiply", "Maximum", "Minimum", "Average", "Subtract"),
    "Concatenate": shapes.concatenate,
    "Flatten": shapes.flatten,
    "Reshape": shapes.reshape,
    "Permute": shapes.permute,
    "RepeatVector": shapes.repeat_vector,
    "EinsumDense": shapes.einsum_dense,
    "Resizing": shapes.resizing,
    **_each(recurrent.recurrent, "LSTM", "GRU", "SimpleRNN"),
    "Bidirectional": recurrent.bidirectional,
    "Attention": recurrent.attention,
    **_each(recurrent.multi_head_attention, "MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"),
}  # fmt: skip


def keras_network(checkpoint: Checkpoint) -> Network | None:
    """The network that a Keras file describes; None when it holds weights alone."""
    described = keras_description(checkpoint.path, checkpoint.format)
    if described is None:
        return None
    builder = KerasBuilder(checkpoint.infos, _is_keras_3(described))
    model = described.model
    name = str(model.settings.get("name") or "network")
    if model.class_name not in MODELS:
        reason = "a class of the user's own, whose code is not in the file"
        return Network((), (), (), name, untranslated=(Untranslated(model.class_name, name, reason),))
    entries, tensors = _entries(model)
    walk = _Walk(builder)
    outputs = walk.model(model, [entry.name for entry in entries], tensors)
    builder.refuse_unused()
    return Network(
        entries, tuple(builder.nodes), tuple(outputs), name,
        notes=tuple(dict.fromkeys(builder.notes)), untranslated=tuple(builder.untranslated),
    )  # fmt: skip


def _is_keras_3(described: KerasDescription) -> bool:
    """By the version, or by words of the configuration that only Keras 3 uses."""
    if described.version:
        return described.version.split(".")[0] == "3"
    text = str(described.model.settings)
    return "'batch_shape'" in text or "keras_history" in text or "DTypePolicy" in text


def _entries(model: KerasLayer) -> tuple[tuple[NetworkInput, ...], list[CallOutput]]:
    """The network's inputs, and the tensors of the model that they are."""
    layers = {layer.name: layer for layer in model.children}
    if model.class_name == "Sequential" or "input_layers" not in model.settings:
        first = model.children[0]
        name = first.name if first.class_name == "InputLayer" else "input"
        return (NetworkInput(name, *_shape_and_dtype(first, model)),), [CallOutput(name)]
    tensors = outer_tensors(model.settings["input_layers"])
    return tuple(
        NetworkInput(tensor.layer, *_shape_and_dtype(layers[tensor.layer], model)) for tensor in tensors
    ), tensors


def _shape_and_dtype(layer: KerasLayer, model: KerasLayer) -> tuple[tuple[int | None, ...], str]:
    settings = layer.settings
    if layer.class_name in MODELS and layer.children:
        return _shape_and_dtype(layer.children[0], layer)
    shape = settings.get("batch_shape", settings.get("batch_input_shape")) or model.settings.get("build_input_shape")
    if shape is None and layer.shape is not None:
        shape = (None, *layer.shape)
    dtype = settings.get("dtype") if layer.class_name == "InputLayer" else None
    if isinstance(dtype, Mapping):
        dtype = (dtype.get("config") or {}).get("name")
    known = dtype if dtype in ("int32", "int64", "bool", "uint8") else "float32"
    return tuple(shape or ()), str(known)


class _Walk:
    """Goes through models in the order in which their layers can run."""

    def __init__(self, builder: KerasBuilder) -> None:
        self.builder = builder

    def model(self, model: KerasLayer, inputs: Sequence[str], tensors: Sequence[CallOutput] = ()) -> list[str]:
        """The values that a model gives for these."""
        if model.class_name == "Sequential" or "output_layers" not in model.settings:
            return self._in_sequence(model.children, inputs)
        tensors = tensors or outer_tensors(model.settings["input_layers"])
        values = dict(zip(tensors, inputs, strict=True))
        waiting = list(self._calls(model))
        outer = outer_tensors(model.settings["output_layers"])
        while waiting:
            ready = [entry for entry in waiting if values.keys() >= set(entry[2].tensors())]
            waiting = [entry for entry in waiting if not values.keys() >= set(entry[2].tensors())]
            if not ready:
                names = ", ".join(entry[0].name for entry in waiting[:5])
                self._refuse(model, f"the inputs of {names} are not in the file")
                return [self.builder.value(model.path) for _ in outer]
            for layer, index, call in ready:
                outputs = enumerate(self._called(layer, call, values))
                values |= {CallOutput(layer.name, index, position): value for position, value in outputs}
        return [values[tensor] for tensor in outer]

    def _in_sequence(self, layers: Sequence[KerasLayer], inputs: Sequence[str]) -> list[str]:
        """What layers give of which each takes what the one before gives."""
        values: Sequence[str] = inputs
        for layer in layers:
            if layer.class_name != "InputLayer":
                values = self.layer(layer, tuple(values))[:1]
        return list(values)

    def _calls(self, model: KerasLayer) -> list[tuple[KerasLayer, int, KerasCall]]:
        """Every call in the model: (layer, number of the call, call)."""
        layers = {layer.name: layer for layer in model.children}
        calls = []
        for entry in model.settings["layers"]:
            name = str(entry.get("name") or (entry.get("config") or {}).get("name"))
            path = f"{model.path}/{name}" if model.path else name
            layer = layers.get(name)
            if layer is None or self._is_operation(layer):
                layer = KerasLayer(path, f"ops.{entry.get('class_name')}", entry.get("config") or {})
            calls += [(layer, index, call) for index, call in enumerate(calls_of(entry))]
        tensors = {tensor for _, _, call in calls for tensor in call.tensors()}
        tensors.update(outer_tensors(model.settings["output_layers"]))
        counts = Counter(layer.name for layer, _, _ in calls)
        first = {layer.name: self._first_call(layer, tensors, counts[layer.name]) for layer, _, _ in calls}
        return [(layer, index + first[layer.name], call) for layer, index, call in calls]

    def _is_operation(self, layer: KerasLayer) -> bool:
        """Whether an entry is a function of keras.ops: in .h5 files only the settings of all layers are missing."""
        return self.builder.is_keras_3 and not {"trainable", "dtype"} & layer.settings.keys() and not layer.children

    def _first_call(self, layer: KerasLayer, tensors: Collection[CallOutput], count: int) -> int:
        """The number of a layer's first call: for most models in the model 1, as they count their own input.

        Source: keras/src/models/functional.py and tf_keras/src/engine/functional.py, _should_skip_first_node.
        """
        if layer.class_name not in MODELS:
            return 0
        has_input = bool(layer.children) and layer.children[0].class_name == "InputLayer"
        likely = int(layer.class_name != "Sequential" if self.builder.is_keras_3 else has_input)
        numbers = [tensor.call for tensor in tensors if tensor.layer == layer.name]
        fitting = [first for first in (likely, 1 - likely) if all(first <= n < first + count for n in numbers)]
        return (*fitting, likely)[0]

    def _called(self, layer: KerasLayer, call: KerasCall, values: Mapping[CallOutput, str]) -> Sequence[str]:
        """The values that a call in a functional model gives."""
        arguments = [_resolved(value, values) for value in call.arguments]
        named = {key: _resolved(value, values) for key, value in call.named.items()}
        if not arguments:
            arguments = [
                value for key in ("inputs", "sequence", "query") if (value := named.pop(key, None)) is not None
            ]
        first = arguments[0] if arguments else ()
        if not isinstance(first, str | tuple):  # a number, as in 1 - x
            return self.layer(layer, (), tuple(arguments), named)
        inputs = (first,) if isinstance(first, str) else first
        return self.layer(layer, inputs, tuple(arguments[1:]), named)

    def layer(
        self,
        layer: KerasLayer,
        inputs: tuple[str, ...],
        rest: tuple[object, ...] = (),
        named: Mapping[str, object] | None = None,
    ) -> Sequence[str]:
        """The values that a layer, or a model in the model, gives."""
        if layer.class_name in MODELS and layer.children:
            return self.model(layer, inputs)
        call = LayerCall(self.builder, layer, inputs, rest, named or {})
        try:
            _refuse_arguments(call)
            if layer.class_name == "TimeDistributed":
                return self._for_each_step(call)
            translate = TRANSLATIONS.get(layer.class_name, operation)
            values = translate(call)
        except RefusedError as error:
            self._refuse(layer, str(error))
            return [self.builder.value(layer.path) for _ in range(3)]
        return (values,) if isinstance(values, str) else values

    def _for_each_step(self, call: LayerCall) -> Sequence[str]:
        """TimeDistributed: the steps are examples of their own; a dense layer takes them as they are."""
        inner = call.layer.children[0]
        if inner.class_name in ("Dense", "Dropout", "Activation", *ACTIVATION_LAYERS):
            return self.layer(inner, (call.x,))
        merged = call.step("merge_steps", call.x)
        values = self.layer(inner, (merged,))
        return [call.step("split_steps", value, call.x) for value in values]

    def _refuse(self, layer: KerasLayer, reason: str) -> None:
        self.builder.untranslated.append(Untranslated(layer.class_name, layer.path, reason))


# Arguments of a call beside its inputs, which the translations of these classes take.
_ATTENTION = frozenset({"query", "value", "key", "attention_mask", "use_causal_mask", "return_attention_scores"})
_ARGUMENTS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "Bidirectional"), frozenset({"initial_state"})),
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"), _ATTENTION),
    "Attention": frozenset({"use_causal_mask", "mask"}),
}


def _refuse_arguments(call: LayerCall) -> None:
    """Raise RefusedError for arguments of a layer's call that its translation would leave out."""
    kind = call.layer.class_name
    if kind.startswith("ops.") or kind in ("TFOpLambda", "SlicingOpLambda"):
        return
    taken = _ARGUMENTS.get(kind, frozenset())
    given = {key: value for key, value in call.named.items() if value is not None and key not in taken}
    # Keras 3 lets the call of the model decide (keras/src/models/functional.py, operation_fn).
    if given.pop("training", None) and not call.builder.is_keras_3:
        raise RefusedError("it is called with training=True")
    extra = [value for value in call.rest if value is not None] if not taken else []
    if given or extra:
        raise RefusedError(f"its arguments {', '.join(given) or 'beside the inputs'}")


def _resolved(value: object, values: Mapping[CallOutput, str]) -> Any:
    """A call's argument with names of values for tensors."""
    if isinstance(value, CallOutput):
        return values[value]
    if isinstance(value, list | tuple):
        return tuple(_resolved(item, values) for item in value)
    return value
