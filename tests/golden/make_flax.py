"""Write the Flax golden files: `python tests/golden/make_flax.py` with jax, flax, optax and ml_dtypes installed.

`flax_state.msgpack` is a training state as flax.serialization.to_bytes writes it (parameters, batch statistics, the
optimiser's state, a step); `flax_chunked.msgpack` was written with Flax's limit for one array lowered to 64 bytes, and
`flax_types.msgpack` holds bfloat16, complex and plain numbers. `flax.npz` holds input, output and all leaves.
"""

from pathlib import Path

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flax.training import train_state

FOLDER = Path(__file__).parent


class Network(nn.Module):
    """Automatic and given names, batch-norm, attention and a recurrent cell."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (2, 3), strides=2, name="stem")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Conv(4, (3, 1), feature_group_count=2)(x)
        x = x.reshape(x.shape[0], -1, 4)
        x = nn.LayerNorm()(x)
        x = nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x, x)
        x = nn.RNN(nn.OptimizedLSTMCell(3), name="memory")(x)
        return nn.Dense(3)(x.mean(1))


class State(train_state.TrainState):
    """With the batch statistics beside the parameters."""

    batch_stats: dict


def flat(tree):
    return {"/".join(str(getattr(k, "key", k)) for k in path): np.asarray(leaf) for path, leaf in
            jax.tree_util.tree_flatten_with_path(tree)[0]}  # fmt: skip


def main():
    x = jax.random.normal(jax.random.key(1), (2, 5, 7, 2))
    network = Network()
    variables = network.init(jax.random.key(0), x)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1, leaf.shape), leaf.dtype), variables)
    state = State.create(apply_fn=network.apply, tx=optax.adam(1e-3), **variables)
    (FOLDER / "flax_state.msgpack").write_bytes(serialization.to_bytes(state))
    found = {f"state/{name}": leaf for name, leaf in flat(variables).items()}
    found |= {"x": np.asarray(x), "y": np.asarray(network.apply(variables, x))}

    large = {"params": {"Dense_0": {"kernel": rng.normal(size=(5, 7)).astype("float32"), "bias": np.arange(7.0)}}}
    serialization.MAX_CHUNK_SIZE = 64
    (FOLDER / "flax_chunked.msgpack").write_bytes(serialization.to_bytes(large))
    found |= {f"chunked/{name}": leaf for name, leaf in flat(large).items()}
    serialization.MAX_CHUNK_SIZE = 2**30
    types = {"half": jnp.asarray([1.5, -2.0, 3e38], jnp.bfloat16), "wave": 1.5 - 2j, "scalar": np.float16(0.5),
             "count": 7, "rate": 0.25, "flags": np.array([True, False]), "name": "text", "none": None}  # fmt: skip
    (FOLDER / "flax_types.msgpack").write_bytes(serialization.to_bytes(types))
    versions = f"flax {flax.__version__} jax {jax.__version__} numpy {np.__version__}"
    np.savez_compressed(FOLDER / "flax.npz", versions=versions, **found)


if __name__ == "__main__":
    main()
