"""What TensorFlow computes from a graph: a `.meta` beside a checkpoint, a frozen `.pb`, a SavedModel.

Source: tensorflow.org/api_docs/python/tf/compat/v1 (import_meta_graph, import_graph_def, saved_model.load).
"""

from pathlib import Path
from typing import Any

from regraft.arrays import Checkpoint
from regraft.networks.network import Network
from regraft.runtimes.recording import Arrays, Recording, required, values_of


def record_tensorflow(checkpoint: Checkpoint, network: Network, inputs: Arrays) -> Recording:
    """The outputs, and every value that the network and the graph have in common; not those inside of functions."""
    tensorflow = required("tensorflow", "tensorflow", "TensorFlow")
    tf = tensorflow.compat.v1
    graph = tf.Graph()
    settings = tf.ConfigProto()
    settings.graph_options.rewrite_options.disable_meta_optimizer = True  # it removes values that are fetched
    with graph.as_default(), tf.Session(graph=graph, config=settings) as session:
        _load(tf, session, checkpoint)
        feed = {f"{name}:0": value for name, value in {**switches(graph), **inputs}.items()}
        fetched = {name: _tensor_name(name) for name in values_of(network) if _is_shown(graph, name)}
        values = session.run(fetched, feed)
    return Recording(f"TensorFlow {tensorflow.__version__}", inputs, values)


def _load(tf: Any, session: Any, checkpoint: Checkpoint) -> None:
    """Put the file's graph into the session, with the values of its variables."""
    if checkpoint.format == "savedmodel":
        folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        tf.saved_model.load(session, [tf.saved_model.tag_constants.SERVING], str(folder))
    elif checkpoint.format == "tensorflow-frozen":
        definition = tf.GraphDef.FromString(checkpoint.path.read_bytes())
        tf.import_graph_def(definition, name="")
    else:
        meta = next(path for path in checkpoint.files if path.suffix == ".meta")
        tf.train.import_meta_graph(str(meta), clear_devices=True).restore(session, str(Path(meta).with_suffix("")))


def switches(graph: Any) -> dict[str, bool | float]:
    """What placeholders take that say whether the network trains: False, and that nothing is dropped."""
    taken: dict[str, bool | float] = {}
    for operation in graph.get_operations():
        kind = operation.outputs[0].dtype.name if operation.type.startswith("Placeholder") else ""
        if kind == "bool":
            taken[operation.name] = False
        elif kind == "float32" and not operation.outputs[0].shape.rank:
            taken[operation.name] = float("keep" in operation.name.rpartition("/")[2].lower())
    return taken


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _is_shown(graph: Any, name: str) -> bool:
    """Whether the graph has a value of this name."""
    try:
        graph.get_tensor_by_name(_tensor_name(name))
    except (KeyError, ValueError):
        return False
    return True
