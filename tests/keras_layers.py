"""One call of a Keras layer, for its translation."""

from regraft.arrays import ArrayInfo
from regraft.formats.keras_config import KerasLayer
from regraft.networks.keras_builder import KerasBuilder, LayerCall


def layer_call(class_name, settings=None, *, inputs=("x",), is_keras_3=True, named=None, **shapes):
    """The call of a layer `l` with arrays of these shapes."""
    infos = {f"l/{leaf}": ArrayInfo(shape, "float32", layer="l", leaf=leaf) for leaf, shape in shapes.items()}
    builder = KerasBuilder(infos, is_keras_3)
    return LayerCall(builder, KerasLayer("l", class_name, settings or {}), tuple(inputs), named=named or {})


def steps(call):
    """(operator, settings) of every node so far."""
    return [(node.operator, dict(node.settings)) for node in call.builder.nodes]
