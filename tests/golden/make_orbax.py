"""Writes the Orbax golden files: /path/to/python make_orbax.py, with jax, flax and orbax-checkpoint installed.

One tree in every generation that Orbax 0.12 can write: a folder for each array in Zarr 2 and 3, one key-value store
(OCDBT) with either, and a step of the checkpoint manager. `orbax.npz` holds the arrays as they were in memory.
"""

import os
import shutil
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

HERE = Path(__file__).resolve().parent
ARRAYS = {
    "params/Dense_0/kernel": jnp.linspace(-2, 3, 12).reshape(4, 3),
    "params/Dense_0/bias": jnp.asarray([0.5, -1.25, 3.0], jnp.bfloat16),
    "params/Dense_0/zeros": jnp.zeros((2, 2)),
    "params/dotted.name/scale": jnp.arange(3, dtype=jnp.float16),
    "params/list/0": np.arange(4).astype(np.int64),
    "params/list/1": np.array([True, False]),
    "opt_state/0/mu/Dense_0/kernel": jnp.ones((4, 3)),
}


def main() -> None:
    """All generations."""
    tree = {
        "params": {
            "Dense_0": {key: ARRAYS[f"params/Dense_0/{key}"] for key in ("kernel", "bias", "zeros")},
            "dotted.name": {"scale": ARRAYS["params/dotted.name/scale"]},
            "list": [ARRAYS["params/list/0"], ARRAYS["params/list/1"]],
        },
        "opt_state": [{"mu": {"Dense_0": {"kernel": ARRAYS["opt_state/0/mu/Dense_0/kernel"]}}}],
        "step": 7,
        "empty": {},
        "nothing": None,
    }
    for name, ocdbt, zarr3 in (
        ("orbax_folders", False, False), ("orbax_folders_zarr3", False, True), ("orbax_store", True, False),
        ("orbax_store_zarr3", True, True),
    ):  # fmt: skip
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
        ocp.Checkpointer(handler).save(HERE / name, tree, force=True)
    shutil.rmtree(HERE / "orbax_manager", ignore_errors=True)
    with ocp.CheckpointManager(HERE / "orbax_manager") as manager:
        manager.save(
            3, args=ocp.args.Composite(params=ocp.args.StandardSave(tree["params"]), step=ocp.args.JsonSave([3]))
        )
        manager.wait_until_finished()
    arrays = {
        key: np.asarray(value, np.float32) if value.dtype == jnp.bfloat16 else np.asarray(value)
        for key, value in ARRAYS.items()
    }
    np.savez(HERE / "orbax.npz", **{f"w/{key}": value for key, value in arrays.items()})


if __name__ == "__main__":
    main()
