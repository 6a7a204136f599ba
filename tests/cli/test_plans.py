"""The commands that make, compare and prove plans."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from onnx_networks import node, write_onnx
from typed import typed

FACTORY = "import torch.nn as nn\ndef build(): return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))\n"


@pytest.fixture
def place(tmp_path):
    """A folder with a model's factory, its checkpoint, and what it answers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    (tmp_path / "net.py").write_text(FACTORY)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    x = torch.randn(5, 3)
    with torch.no_grad():
        between = model[0](x)
        np.savez(tmp_path / "io.npz", x=x.numpy(), y=model(x).numpy(), **{"layer.0": between.numpy()})
    return tmp_path


def planned(place, name, *more):
    checkpoint, factory = place / "net.safetensors", f"{place / 'net.py'}:build"
    return typed("plan", checkpoint, "--model", factory, "--out", place / name, *more)


@pytest.fixture
def theirs(tmp_path):
    """A small checkpoint in TensorFlow's names, and a factory beside it."""
    np.savez(tmp_path / "theirs.npz", **{"dnn/0/kernel": np.ones((2, 3), np.float32), "dnn/0/bias": np.zeros(3)})
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(out=3): return nn.Sequential(nn.Linear(2, out))\n")
    return tmp_path / "theirs.npz"


def test_plan_tells_where_each_array_goes_and_writes_json(theirs):
    """Rename, layout, out."""
    words = [
        "plan",
        theirs,
        "--model",
        f"{theirs.parent / 'net.py'}:net",
        "--layout",
        "tensorflow",
        "--rename",
        r"dnn/(.*)=\1",
    ]
    done = typed(*words, "--out", theirs.parent / "plan.json")
    assert done.code == 0, done.errors
    assert done.output.startswith("2 reused · 0 fresh · 0 problems")
    assert json.loads((theirs.parent / "plan.json").read_text())["layout"] == "tensorflow"


def test_a_plan_with_problems_exits_with_one(theirs):
    """So that scripts notice."""
    words = [
        "plan",
        theirs,
        "--model",
        f"{theirs.parent / 'net.py'}:net",
        "--layout",
        "tensorflow",
        "--model-args",
        '{"out": 4}',
    ]
    words += ["--rename", r"dnn/(.*)=\1"]
    done = typed(*words)
    assert done.code == 1
    assert "shape_mismatch" in done.output


def test_a_plan_is_verified_against_recorded_outputs(place):
    planned(place, "plan.json")

    told = typed("verify", place / "plan.json", "--model", f"{place / 'net.py'}:build", "--golden", place / "io.npz")

    assert told.code == 0, told.errors
    assert "agrees within 1e-05: max error 0.00e+00" in told.output


def test_other_outputs_fail_and_name_the_first_layer(place):
    planned(place, "plan.json")
    with np.load(place / "io.npz") as recorded:
        arrays = {name: recorded[name] for name in recorded.files}
    np.savez(place / "io.npz", **{**arrays, "y": arrays["y"] + 1, "layer.0": arrays["layer.0"] + 1})

    told = typed("verify", place / "plan.json", "--model", f"{place / 'net.py'}:build", "--golden", place / "io.npz")

    assert told.code == 1
    assert told.errors.startswith("VerifyError: ")
    assert "The first layer that differs is 0" in told.errors


def test_a_recording_without_inputs_is_told(place):
    planned(place, "plan.json")
    np.savez(place / "io.npz", a=np.ones(2))

    told = typed("verify", place / "plan.json", "--model", f"{place / 'net.py'}:build", "--golden", place / "io.npz")

    assert "has no x (inputs) or no y (outputs): it holds a" in told.errors


def test_two_plans_are_compared(place):
    planned(place, "one.json")
    planned(place, "two.json", "--fresh", "2")

    told = typed("plan", "--diff", place / "one.json", place / "two.json")
    same = typed("plan", "--diff", place / "one.json", place / "one.json")

    assert "~ 2.weight: exact" in told.output
    assert "-> kept_init" in told.output
    assert same.output == "The plans do the same.\n"


def test_a_plan_that_is_no_file_is_told(place):
    told = typed("plan", "--diff", place / "one.json", place / "two.json")

    assert (told.code, told.errors[:10]) == (1, "JobError: ")


def test_a_plan_needs_a_checkpoint_and_a_model_or_two_plans(place):
    told = typed("plan", place / "net.safetensors")

    assert told.code == 2
    assert "give a checkpoint and --model" in told.errors


def test_a_comparison_takes_nothing_else(place):
    """What would be ignored is refused."""
    planned(place, "one.json")

    told = typed("plan", place / "net.safetensors", "--diff", place / "one.json", place / "one.json")

    assert (told.code, "takes nothing else" in told.errors) == (2, True)


def test_the_folder_of_the_written_plan_is_created(place):
    assert planned(place, "new/folder/plan.json").code == 0
    assert (place / "new" / "folder" / "plan.json").is_file()


def test_a_plan_that_cannot_be_written_is_told_by_its_own_name(place):
    told = planned(place, "net.py/plan.json")

    assert told.code == 1
    assert told.errors.startswith(f"SaveError: The plan cannot be written to {place / 'net.py' / 'plan.json'}: ")


def test_the_table_tells_the_way_out_as_options(place):
    """`missing` alone helps nobody; Python's words do not help at a command line."""
    (place / "more.py").write_text(FACTORY.replace("nn.Linear(4, 2))", "nn.Linear(4, 2), nn.Linear(2, 2))"))

    told = typed("plan", place / "net.safetensors", "--model", f"{place / 'more.py'}:build")

    assert told.output.endswith(
        "missing: 3.weight, 3.bias\n  no array in the checkpoint matches this one\n"
        "  Another name in the checkpoint can be mapped with a rename rule (docs/how-to/rename.md).\n"
        "  Pass --fresh 3 to keep the initial weights.\n"
    )


def test_averages_and_ways_to_fit_are_options_too(place):
    (place / "wide.py").write_text(FACTORY.replace("4, 2", "4, 3"))
    told = typed("plan", place / "net.safetensors", "--model", f"{place / 'wide.py'}:build", "--adapt", "2=first rows")
    assert (told.code, "4 reused" in told.output) == (0, True)

    told = typed("plan", place / "net.safetensors", "--model", f"{place / 'net.py'}:build", "--ema")
    assert (told.code, "has no moving averages of weights" in told.errors) == (1, True)


def test_what_is_no_plan_is_told_by_its_file(place):
    planned(place, "one.json")

    told = typed("plan", "--diff", place / "one.json", place / "net.py")

    assert told.errors.startswith(f"PlanError: {place / 'net.py'}: The plan is not JSON")


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 5000, ""])
def test_hostile_files_end_in_a_sentence(place, content):
    """As a plan, as a recording and as arguments: exit code 1, no traceback."""
    planned(place, "plan.json")
    (place / "bad").write_text(content)
    factory = f"{place / 'net.py'}:build"
    for words in (
        ["plan", "--diff", place / "bad", place / "bad"],
        ["verify", place / "bad", "--model", factory, "--golden", place / "io.npz"],
        ["verify", place / "plan.json", "--model", factory, "--golden", place / "bad"],
        ["plan", place / "net.safetensors", "--model", factory, "--model-args", content],
    ):
        done = typed(*words)
        assert done.code == 1
        assert done.errors.partition(":")[0] in ("PlanError", "VerifyError", "JobError")


def test_a_pattern_given_again_gives_one_array_to_several_layers(tmp_path):
    save_file(nn.Linear(2, 3).state_dict(), tmp_path / "one.safetensors")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3))\n"
    )

    rules = [word for layer in "01" for word in ("--rename", rf"(.*)={layer}.\1")]
    done = typed("plan", tmp_path / "one.safetensors", "--model", f"{tmp_path / 'net.py'}:net", *rules)

    assert done.output.startswith("4 reused · 0 fresh · 0 problems"), done.errors


def test_verify_builds_a_file_and_asks_its_runtime(tmp_path):
    """Without --model; a recording and a runtime exclude each other."""
    x = np.array([[-1.0, 2.0]], np.float32)
    path = write_onnx(tmp_path / "net.onnx", [node("MatMul", "x w", "y")], {"x": x}, {"w": np.eye(2, dtype=np.float32)})
    np.savez(tmp_path / "inputs.npz", x=x)

    done = typed("verify", path, "--runtime", "--inputs", tmp_path / "inputs.npz")

    assert done.code == 0, done.errors
    assert done.output.startswith("agrees with ONNX Runtime")
    assert typed("verify", path, "--runtime", "--golden", tmp_path / "inputs.npz").code == 2
    assert typed("verify", path).code == 2
    assert "give --model" in typed("verify", path, "--golden", tmp_path / "inputs.npz").errors


def test_verify_compares_a_model_with_the_runtime_of_its_plan(tmp_path):
    """The checkpoint is the plan's."""
    x = np.array([[-1.0, 2.0]], np.float32)
    nodes = [node("Gemm", "x 0.weight 0.bias", "y", transB=1)]
    arrays = {"0.weight": np.eye(2, dtype=np.float32), "0.bias": np.zeros(2, np.float32)}
    path = write_onnx(tmp_path / "net.onnx", nodes, {"x": x}, arrays)
    (tmp_path / "net.py").write_text("from torch import nn\ndef build(): return nn.Sequential(nn.Linear(2, 2))\n")
    model = f"{tmp_path / 'net.py'}:build"
    assert typed("plan", path, "--model", model, "--out", tmp_path / "plan.json").code == 0

    done = typed("verify", tmp_path / "plan.json", "--model", model, "--runtime")

    assert done.code == 0, done.errors
    assert "agrees within" in done.output
