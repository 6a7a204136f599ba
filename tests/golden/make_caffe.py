"""Write the Caffe golden file: `PYTHONPATH=tests python tests/golden/make_caffe.py`.

Caffe cannot be installed any more, so this is no file of the real framework: it is written by the description of the
format (tests/written.py), and `y` is computed here with NumPy by Caffe's definitions (BatchNorm divides by its third
blob; Scale is the affine part; InnerProduct flattens (channels, height, width)). Real files of Caffe: ../shared.
"""

from pathlib import Path

import numpy as np

from written import caffe_layer, fields, write_caffe

FOLDER = Path(__file__).parent
EPS = 2e-3


def convolve(x, weight, bias, *, stride, pad):
    """Cross-correlation of (channels, height, width) by the definition."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out, _, height, width = weight.shape
    rows, columns = (x.shape[1] - height) // stride + 1, (x.shape[2] - width) // stride + 1
    y = np.empty((out, rows, columns))
    for row in range(rows):
        for column in range(columns):
            part = x[:, row * stride : row * stride + height, column * stride : column * stride + width]
            y[:, row, column] = (weight * part).sum((1, 2, 3)) + bias
    return y


def main():
    rng = np.random.default_rng(7)
    shapes = {"conv_w": (4, 2, 3, 2), "conv_b": (4,), "mean": (4,), "gamma": (4,), "beta": (4,), "fc_w": (3, 48)}
    shapes["fc_b"] = (3,)
    values = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    values["variance"] = rng.uniform(0.3, 2, 4).astype("float32")
    divisor = np.array([2.5], "float32")
    x = rng.normal(size=(2, 5, 6)).astype("float32")

    write_caffe(FOLDER / "caffe.caffemodel", [
        caffe_layer("conv", "Convolution", [values["conv_w"], values["conv_b"]], bottom="data",
                    settings=[(106, fields((1, 4), (3, 1), (6, 2), (11, 3), (12, 2)))]),
        caffe_layer("bn", "BatchNorm", [values["mean"], values["variance"], divisor], bottom="conv",
                    settings=[(139, fields((1, 1), (3, EPS)))]),
        caffe_layer("scale", "Scale", [values["gamma"], values["beta"]], bottom="bn", settings=[(142, fields((4, 1)))]),
        caffe_layer("relu", "ReLU", bottom="scale"),
        caffe_layer("fc", "InnerProduct", [values["fc_w"], values["fc_b"]], bottom="relu",
                    settings=[(117, fields((1, 3)))]),
    ])  # fmt: skip

    y = convolve(x, values["conv_w"], values["conv_b"], stride=2, pad=1)
    column = (slice(None), None, None)
    y = (y - (values["mean"] / divisor)[column]) / np.sqrt((values["variance"] / divisor)[column] + EPS)
    y = np.maximum(y * values["gamma"][column] + values["beta"][column], 0)
    y = values["fc_w"] @ y.ravel() + values["fc_b"]
    np.savez_compressed(FOLDER / "caffe.npz", x=x, y=y.astype("float32"), divisor=divisor, **values)


if __name__ == "__main__":
    main()
