"""Inference of any image classifier in an ONNX file in ONNX Runtime and OpenVINO, FP32 and static INT8; serves run.py's lines.

Images are noise, f32 NCHW, as INT8 ranges are set from; speed does not hang on them. `int8:onnxruntime-exported` and
`int8:openvino-exported` run a file that `lowbit export` wrote.
"""

import argparse
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import protocol
import runtimes

CALIBRATION_BATCHES = 4


def images(batch, side, seed=0):
    return np.random.default_rng(seed).random((batch, 3, side, side), np.float32) * 2 - 1


def engines(args, folder):
    calibration = [images(16, args.side, seed) for seed in range(1, 1 + CALIBRATION_BATCHES)]

    @cache
    def quantized():
        path = folder / "int8.onnx"
        runtimes.quantize(args.file, path, calibration)
        return path

    def onnx_runtime(file):
        return lambda batch: runtimes.onnx_runtime(file(), images(batch, args.side), args.threads)

    def openvino(net):
        return lambda batch: runtimes.open_vino(net(), images(batch, args.side), args.threads)

    found = {
        "fp32:onnxruntime": onnx_runtime(lambda: args.file),
        "fp32:openvino": openvino(lambda: args.file),
        "int8:onnxruntime": onnx_runtime(quantized),
        "int8:openvino": openvino(lambda: runtimes.nncf_model(args.file, calibration)),
    }
    if args.exported:
        found["int8:onnxruntime-exported"] = onnx_runtime(lambda: args.exported)
        found["int8:openvino-exported"] = openvino(lambda: args.exported)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of the images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--exported", type=Path, help="the same model in INT8 from `lowbit export`")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        protocol.serve(engines(args, Path(folder)))


if __name__ == "__main__":
    main()
