"""TensorFlow's `If`: the branch that a known condition chooses, or both as networks of their own.

Source: tensorflow/core/api_def/base_api; tensorflow/lite/kernels/if.cc.
"""

from collections.abc import Mapping
from dataclasses import replace

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.drafting import UnsupportedError
from regraft.networks.network import Network, NetworkInput
from regraft.networks.tensorflow_translation import TensorFlowTranslation, Translate


def _if(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    if translation.branch is None:
        raise UnsupportedError
    outer = translation.inputs(operation)[1:]
    branches = {word: translation.branch(operation.settings[f"{word}_branch"], outer) for word in ("then", "else")}
    for branch in branches.values():
        translation.draft.untranslated += branch.untranslated
    used = [value for value in dict.fromkeys(outer) if isinstance(value, str)]
    outputs = [translation.output(operation, index) for index in range(len(branches["then"].outputs))]
    entries = tuple(NetworkInput(name, ()) for name in used)
    networks: dict[str, Network] = {word: replace(branch, entries=entries) for word, branch in branches.items()}
    translation.emit("if", [translation.value(operation.inputs[0]), *used], outputs, **networks)


def _while(translation: TensorFlowTranslation, operation: ProgramOperation) -> None:
    raise UnsupportedError("loops have no translation")


BRANCHES: Mapping[str, Translate] = {
    "If": _if, "StatelessIf": _if, "While": _while, "StatelessWhile": _while, "NextIteration": _while,
}  # fmt: skip
