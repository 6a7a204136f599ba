"""A TensorFlow 1 checkpoint of the trained variables under their source names, written without TensorFlow."""

from pathlib import Path

from regraft.errors import SaveError
from regraft.exports.bundle_writer import write_bundle
from regraft.exports.exported import Exported
from regraft.exports.source_arrays import SourceArrays, source_arrays
from regraft.foundation.wording import counted, listed
from regraft.plan import Plan
from regraft.saving import PLAN_FILE

PREFIX = "model.ckpt"
LAYOUTS = ("tensorflow", "keras")


def write_tensorflow1(exported: Exported, folder: Path) -> None:
    """A folder with model.ckpt.index, model.ckpt.data-00000-of-00001, `checkpoint`, and what is in them in words.

    `tf.compat.v1.train.Saver(variables).restore(session, "FOLDER/model.ckpt")` restores it into a graph that has these
    variables. There is no .meta file: the graph is the user's own. Raises SaveError for a model whose layers did not
    come from TensorFlow or Keras, and for arrays that cannot be written as its variables.
    """
    plan = plan_of(exported)
    if plan.layout not in LAYOUTS:
        raise other_source(exported, plan, "TensorFlow or Keras")
    arrays = source_arrays(exported, plan)
    folder.mkdir()
    write_bundle(folder / PREFIX, arrays.values)
    (folder / "README.txt").write_text(words_on(arrays, plan), encoding="utf-8")


def plan_of(exported: Exported) -> Plan:
    """The plan of a run. Raises SaveError where there is none."""
    file = exported.folder / PLAN_FILE
    if not file.is_file():
        raise SaveError(f"{exported.folder} has no plan, so the names of its source are not known.")
    return Plan.from_json(file.read_text(encoding="utf-8"))


def other_source(exported: Exported, plan: Plan, words: str) -> SaveError:
    """The refusal of a model whose layers did not come from the framework that `words` name."""
    return SaveError(
        f"The layers of {exported.folder} came from {plan.checkpoint.path} ({plan.checkpoint.format}) and not from "
        f"{words}. Choose another format: onnx, torch-export, safetensors."
    )


def words_on(arrays: SourceArrays, plan: Plan) -> str:
    """What a checkpoint holds and what not."""
    lines = [f"{counted(len(arrays.values), 'variable')} of a model trained with regraft, from {plan.checkpoint.path}."]
    if arrays.placed:
        lines.append(f"New layers in the place of old ones, perhaps of another size: {listed(list(arrays.placed))}.")
    if arrays.new:
        lines.append(f"Layers that the source does not have: {listed(list(arrays.new))}.")
    if arrays.left:
        lines.append(f"Not written: {listed(list(arrays.left))}.")
    return "\n".join([*lines, "There is no graph (.meta): build yours, and restore these variables into it.", ""])
