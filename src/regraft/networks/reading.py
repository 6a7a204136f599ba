"""The network of a checkpoint, where its file describes one."""

from collections.abc import Callable, Mapping

from regraft.arrays import Checkpoint
from regraft.errors import BuildError
from regraft.networks.caffe import caffe_network
from regraft.networks.damage import refused_damage
from regraft.networks.keras import keras_network
from regraft.networks.mxnet import mxnet_network
from regraft.networks.network import Network
from regraft.networks.onnx import network_of_onnx
from regraft.networks.tensorflow import network_of_tensorflow
from regraft.networks.tflite import network_of_tflite


def _of_javascript(checkpoint: Checkpoint) -> Network | None:
    """TensorFlow.js has models of Keras' layers, and graphs."""
    return keras_network(checkpoint) or network_of_tensorflow(checkpoint)


# The reader's name → the translation; it gives None for a file of weights alone.
_TRANSLATIONS: Mapping[str, Callable[[Checkpoint], Network | None]] = {
    "caffe": caffe_network,
    "keras": keras_network,
    "keras-h5": keras_network,
    "tfjs": _of_javascript,
    "tensorflow-v1": network_of_tensorflow,
    "tensorflow-v2": network_of_tensorflow,
    "tensorflow-frozen": network_of_tensorflow,
    "savedmodel": network_of_tensorflow,
    "mxnet": mxnet_network,
    "onnx": network_of_onnx,
    "tflite": network_of_tflite,
}


def network_of(checkpoint: Checkpoint) -> Network:
    """The network that the checkpoint's file describes; what has no translation is in `untranslated`.

    Raises BuildError when the file describes none, or when its description is damaged.
    """
    translation = _TRANSLATIONS.get(checkpoint.format)
    with refused_damage(checkpoint.path):
        network = translation(checkpoint) if translation else None
    if network is None:
        raise BuildError(
            f"{checkpoint.path} holds weights without a description of their network ({checkpoint.format}). "
            "Write the network in torch and match it: plan_reuse(checkpoint, model). When the file is a plain list of "
            'dense layers or convolutions, describe it: chain={"activation": "relu", "layout": "tensorflow"}.'
        )
    return network
