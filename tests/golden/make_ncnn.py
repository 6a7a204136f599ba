"""Write the ncnn golden files: `python tests/golden/make_ncnn.py` (needs ncnn, of which only the runtime is used).

The networks are written by hand, as ncnn's converters write them: the truth is that ncnn reads them, and its answers.
"""

import struct
from pathlib import Path

import ncnn
import numpy as np

FOLDER = Path(__file__).parent
NETWORK = """7767517
10 11
Input            data     0 1 data 0=9 1=8 2=3
Convolution      conv1    1 1 data a 0=4 1=3 11=3 3=2 13=1 4=1 14=2 5=1 6=108 9=2 -23310=1,0.1
BatchNorm        bn1      1 1 a b 0=4 1=0.001
PReLU            prelu1   1 1 b c 0=4
Split            split    1 2 c c0 c1
ConvolutionDepthWise dw   1 1 c0 d 0=4 1=3 11=3 4=1 5=0 6=36 7=4
BinaryOp         add      2 1 c1 d e 0=0
Deconvolution    up       1 1 e f 0=5 1=2 11=2 3=2 5=1 6=80
Pooling          pool     1 1 f g 0=1 4=1
InnerProduct     fc       1 1 g out 0=3 1=1 2=15
"""
CELL = """7767517
2 2
Input            data     0 1 data 0=4 1=5
LSTM             lstm     1 1 data out 0=3 1=96 2=2
"""
SHAPES = [(4, 3, 3, 3), 4, 4, 4, 4, 4, 4, (4, 1, 3, 3), (5, 4, 2, 2), 5, (3, 5), 3]  # kernels are tuples
VARIANCE = 4


def tagged(array, *, half=False):
    """The array behind the four bytes that say how it is stored, filled up to four bytes."""
    content = array.astype("<f2" if half else "<f4").tobytes()
    return struct.pack("<I", 0x01306B47 if half else 0) + content + bytes(-len(content) % 4)


def write(name, param, content, x):
    """The two files, and what ncnn answers to x."""
    path = FOLDER / name
    path.with_suffix(".param").write_text(param)
    path.with_suffix(".bin").write_bytes(content)
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.opt.use_winograd_convolution = False
    if net.load_param(str(path.with_suffix(".param"))) or net.load_model(str(path.with_suffix(".bin"))):
        raise SystemExit(f"ncnn does not read {name}")
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(x))
    np.savez(path.with_suffix(".npz"), x=x, y=np.array(extractor.extract("out")[1]))


def main():
    """The networks in float32 and float16, and a cell of two directions."""
    for half in (False, True):
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=shape).astype("<f4") for shape in SHAPES]
        arrays[VARIANCE] = np.abs(arrays[VARIANCE]) + 0.5
        parts = [tagged(array, half=half) if array.ndim > 1 else array.tobytes() for array in arrays]
        x = rng.normal(size=(3, 8, 9)).astype("f4")
        write(f"ncnn{'_half' if half else ''}.param", NETWORK, b"".join(parts), x)
    rng = np.random.default_rng(1)
    gates = [rng.normal(size=shape) for shape in ((2, 12, 4), (2, 12), (2, 12, 3))]
    write("ncnn_cell.param", CELL, b"".join(map(tagged, gates)), rng.normal(size=(5, 4)).astype("f4"))


if __name__ == "__main__":
    main()
