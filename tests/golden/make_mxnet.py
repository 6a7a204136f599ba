"""Write the MXNet golden files: `PYTHONPATH=tests python tests/golden/make_mxnet.py`.

MXNet is retired and cannot be installed with current NumPy, so these are no files of the real framework: they are
written by the description of the format (tests/written.py), with a symbol as MXNet 1.x writes it.
"""

import json
from pathlib import Path

import numpy as np

from written import write_params

FOLDER = Path(__file__).parent
NODES = (
    ("null", "data", {}, []),
    ("null", "conv0_weight", {}, []),
    ("null", "conv0_bias", {}, []),
    ("Convolution", "conv0", {"kernel": "(3, 2)", "num_filter": "4", "stride": "(2, 1)", "pad": "(1, 0)"}, [0, 1, 2]),
    ("null", "bn0_gamma", {}, []),
    ("null", "bn0_beta", {}, []),
    ("null", "bn0_moving_mean", {}, []),
    ("null", "bn0_moving_var", {}, []),
    ("BatchNorm", "bn0", {"eps": "2e-05", "fix_gamma": "True", "momentum": "0.9"}, [3, 4, 5, 6, 7]),
    ("null", "fc1_weight", {}, []),
    ("null", "fc1_bias", {}, []),
    ("FullyConnected", "fc1", {"num_hidden": "3"}, [8, 9, 10]),
)


def main():
    rng = np.random.default_rng(8)
    shapes = {
        "arg:fc1_bias": (3,), "arg:fc1_weight": (3, 8), "arg:conv0_weight": (4, 2, 3, 2), "arg:conv0_bias": (4,),
        "arg:bn0_gamma": (4,), "arg:bn0_beta": (4,), "aux:bn0_moving_mean": (4,), "aux:bn0_moving_var": (4,),
    }  # fmt: skip
    arrays = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    write_params(FOLDER / "mxnet-0012.params", arrays)
    nodes = [{"op": op, "name": name, "attrs": attrs, "inputs": [[index, 0, 0] for index in inputs]}
             for op, name, attrs, inputs in NODES]  # fmt: skip
    (FOLDER / "mxnet-symbol.json").write_text(json.dumps({"nodes": nodes, "heads": [[11, 0, 0]]}, indent=1))
    np.savez_compressed(FOLDER / "mxnet.npz", **{name.split(":")[1]: array for name, array in arrays.items()})


if __name__ == "__main__":
    main()
