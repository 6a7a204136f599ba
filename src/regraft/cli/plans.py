"""`regraft plan` and `regraft verify`: where each array goes, and whether the outputs are then those of the source."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regraft.cli.printing import Commands, add_command, refuse_usage, say
from regraft.errors import JobError, PlanError, SaveError

if TYPE_CHECKING:  # `regraft show` answers before these are imported
    import numpy as np

    from regraft.plan import Plan

SPEC = "timm:NAME, torchvision:NAME, hf:FOLDER, package.module:factory, file.py:factory"
MODEL_ARGS: dict[str, Any] = {"default": "{}", "metavar": "JSON", "help": "the factory's arguments"}


@dataclass(frozen=True)
class Wishes:
    """What was typed after `regraft plan`; the names and values of most are those of `plan_reuse`."""

    checkpoint: Path | None
    model: str
    model_args: str
    reuse: list[str] | None
    fresh: list[str] | None
    rename: list[str] | None
    layout: str | None
    match: Literal["names", "structure"]
    adapt: list[str] | None
    adopt: list[str] | None
    accept: list[str] | None
    ema: bool
    out: Path | None
    show_all: bool
    diff: tuple[Path, Path] | None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `plan_reuse`."""
        return {
            "reuse": self.reuse or ".*",
            "fresh": self.fresh or (),
            "rename": _renames(self.rename or []),
            "layout": self.layout,
            "match": self.match,
            "adapt": dict(_pairs("adapt", "PATTERN=HOW", self.adapt or [])),
            "adopt": self.adopt or (),
            "accept": self.accept or (),
            "ema": self.ema,
        }


def add_to(commands: Commands) -> None:
    """The commands and their arguments."""
    add = add_command(commands, plan)
    again = {"action": "append", "metavar": "PATTERN"}
    add("checkpoint", nargs="?", type=Path, help="a checkpoint: file, folder, or TensorFlow prefix")
    add("--model", default="", metavar="SPEC", help=SPEC)
    add("--model-args", **MODEL_ARGS)
    add("--reuse", **again, help="layers to restore; may be given again")
    add("--fresh", **again, help="layers that keep their initial weights; may be given again")
    add(
        "--rename",
        action="append",
        metavar="CHECKPOINT_NAME=MODEL_NAME",
        help="map names by a regular expression; may be given again",
    )
    add("--layout", help="whose axis order the arrays follow")
    add("--match", default="names", choices=("names", "structure"), help="names (the default) or structure")
    add("--adapt", action="append", metavar="PATTERN=HOW", help="make an array fit that does not: conv1=sum")
    add("--adopt", **again, help="settings to take over from the checkpoint: '.*' takes all that it can")
    add("--accept", **again, help="settings that stay the model's own though they differ")
    add("--ema", action="store_true", help="use the moving averages of the weights")
    add("--out", type=Path, metavar="FILE", help="write the plan as JSON")
    add("--diff", type=Path, nargs=2, metavar="PLAN", help="what the second plan does differently, nothing else")
    add("--all", dest="show_all", action="store_true", help="a row for every array")

    add = add_command(commands, verify)
    add("plan", type=Path, help="a plan as JSON; its checkpoint must still be where the plan says. With --runtime and "
        "without --model a checkpoint, whose network is built")  # fmt: skip
    add("--model", default="", metavar="SPEC", help=SPEC)
    recorded = "an .npz of x, y and layer.NAME: what the source framework recorded"
    add("--golden", type=Path, metavar="FILE", help=recorded)
    add("--runtime", action="store_true", help="compute the outputs in the file's own runtime, which must be installed")
    add("--inputs", type=Path, metavar="FILE", help="with --runtime: an .npz of the inputs; random ones by default")
    add("--seed", type=int, default=0, help="with --runtime: of the random inputs")
    add("--rtol", type=float, default=1e-5, help="with --runtime: share of an output's largest value, by default 1e-5")
    add("--model-args", **MODEL_ARGS)
    add("--atol", type=float, default=1e-5, help="the largest absolute difference; by default 1e-5")


@dataclass(frozen=True)
class Proof:
    """What is compared, as typed: see the help of `regraft verify`."""

    plan: Path
    model: str
    golden: Path | None
    runtime: bool
    inputs: Path | None
    seed: int
    rtol: float
    model_args: str
    atol: float


def plan(**typed: Any) -> None:
    """Where each array would go, and why; nothing is changed. Exit 1 when the plan has problems."""
    wishes = Wishes(**typed)
    if wishes.diff is not None:
        if any(value for name, value in typed.items() if name not in ("diff", "match") and value != "{}"):
            refuse_usage("plan", "--diff compares two finished plans and takes nothing else")
        _print_differences(*wishes.diff)
        return
    if wishes.checkpoint is None or not wishes.model:
        refuse_usage("plan", "give a checkpoint and --model, or --diff and two plans")
    _print_plan(wishes.checkpoint, wishes)


def _print_plan(checkpoint: Path, wishes: Wishes) -> None:
    from regraft.jobs.advice import spelled, spelled_for
    from regraft.jobs.factories import model_by_spec
    from regraft.matching import plan_reuse
    from regraft.reading import open_checkpoint

    arguments = wishes.arguments()
    model = model_by_spec(wishes.model, json_arguments(wishes.model_args))
    with spelled_for("command line"):
        made = plan_reuse(open_checkpoint(checkpoint), model, **arguments)
    say(made.table(all=wishes.show_all, spell=lambda advice: spelled(advice, "command line")))
    if wishes.out is not None:
        _write(made, wishes.out)
    if made.problems:
        sys.exit(1)


def _write(plan: "Plan", path: Path) -> None:
    from regraft.foundation.files import write_whole

    try:
        write_whole(path, plan.to_json())
    except OSError as error:
        raise SaveError(f"The plan cannot be written to {path}: {error.strerror}. Choose another folder.") from error


def verify(**typed: Any) -> None:
    """Compare a model's outputs with those of its source framework, recorded or computed now. Exit 1 when they differ.

    regraft verify plan.json --model net.py:Net --golden io.npz   a model with the plan's weights, and recorded outputs
    regraft verify plan.json --model net.py:Net --runtime         the same, and the runtime of its checkpoint
    regraft verify model.onnx --runtime                           the network that is built from the file
    """
    proof = Proof(**typed)
    if (proof.golden is None) == (not proof.runtime):
        refuse_usage("verify", "give --golden and a recording, or --runtime")
    if proof.golden is not None and (not proof.model or proof.inputs is not None):
        refuse_usage("verify", "--golden compares a model: give --model, and no --inputs")
    if proof.model:
        _verify_plan(proof)
    else:
        _verify_network(proof)


def _verify_plan(proof: Proof) -> None:
    from regraft.jobs.factories import model_by_spec
    from regraft.loading import apply_plan
    from regraft.reading import open_checkpoint
    from regraft.verifying import read_golden
    from regraft.verifying import verify as compare
    from regraft.verifying_runtime import golden_by_runtime

    made = _plan_in(proof.plan)
    built = model_by_spec(proof.model, json_arguments(proof.model_args))
    checkpoint = open_checkpoint(made.checkpoint.path)
    apply_plan(made, checkpoint, built)
    if proof.golden is not None:
        recorded = read_golden(proof.golden)
    else:
        recorded = golden_by_runtime(checkpoint, made, inputs=_inputs(proof), seed=proof.seed)
    say(str(compare(built, recorded.inputs, recorded.outputs, atol=proof.atol, intermediate=recorded.layers)))


def _verify_network(proof: Proof) -> None:
    from regraft.reading import open_checkpoint
    from regraft.verifying_runtime import verify_with_runtime

    checkpoint = open_checkpoint(proof.plan)
    say(str(verify_with_runtime(checkpoint, inputs=_inputs(proof), seed=proof.seed, rtol=proof.rtol)))


def _inputs(proof: Proof) -> "Mapping[str, np.ndarray] | None":
    from regraft.verifying import read_arrays

    return None if proof.inputs is None else read_arrays(proof.inputs)


def _print_differences(before: Path, after: Path) -> None:
    lines = _plan_in(before).diff(_plan_in(after))
    say("\n".join(lines) if lines else "The plans do the same.")


def _plan_in(path: Path) -> "Plan":
    """The plan in a file. Raises JobError or PlanError that names the file."""
    from regraft.plan import Plan

    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path} cannot be read as a plan: {error}. `regraft plan … --out` writes one.") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def json_arguments(text: str, option: str = "--model-args", example: str = '{"num_classes": 6}') -> dict[str, Any]:
    """The value of an option. Raises JobError when it is not a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{option} {text!r} is not JSON: {error}. Expected '{example}'.") from error
    if not isinstance(value, dict):
        raise JobError(f"{option} {text!r} is not a JSON object. Expected '{example}'.")
    return value


def _renames(rules: list[str]) -> dict[str, list[str]]:
    """Pattern → replacements: the same pattern with another replacement gives one array to several layers."""
    renames: dict[str, list[str]] = defaultdict(list)
    for theirs, ours in _pairs("rename", "CHECKPOINT_NAME=MODEL_NAME", rules):
        renames[theirs].append(ours)
    return dict(renames)


def _pairs(option: str, form: str, rules: list[str]) -> list[tuple[str, str]]:
    """What was given as one text each, taken apart at the first "="."""
    wrong = [rule for rule in rules if "=" not in rule]
    if wrong:
        example = {"rename": "'dnn/(.*)=\\1'", "adapt": "'conv1=sum'"}[option]
        raise JobError(f"--{option} {wrong[0]!r} is not of the form {form}, as in {example}.")
    return [(theirs, ours) for theirs, _, ours in (rule.partition("=") for rule in rules)]
