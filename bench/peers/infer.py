"""Inference of a model of the zoo in PyTorch, ONNX Runtime and OpenVINO, FP32 and static INT8; serves run.py's lines.

Every engine takes f32 NCHW input and quantizes inside the clock where it is an INT8 engine. Weights and images come from
recipe.py; batch-norm statistics and calibration ranges from its images.
"""

import argparse
import copy
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch

import models
import protocol
import recipe
import runtimes

CALIBRATION_BATCHES = 4


def calibration():
    return [images(16, step).numpy() for step in range(CALIBRATION_BATCHES)]


NAME = "eurosat-cnn"


def side():
    return models.ZOO[NAME][1]


def images(batch, step=0):
    return models.normalized(recipe.batch(step, batch, side())[0])


@cache
def model():
    net = models.ZOO[NAME][0]()
    models.initialize(net)
    net.train()
    with torch.no_grad():
        for step in range(20):
            net(images(16, step))
    return net.eval()


def timed(net, x):
    def run():
        with torch.inference_mode():
            net(x)

    run()
    return run


def torch_eager(batch):
    return timed(model(), images(batch))


def channels_last(net):
    return copy.deepcopy(net).to(memory_format=torch.channels_last)


def torch_channels_last(batch):
    return timed(channels_last(model()), images(batch).to(memory_format=torch.channels_last))


def torch_compile(batch):
    import torch._inductor.config as inductor

    inductor.freezing = True
    net, x = channels_last(model()), images(batch).to(memory_format=torch.channels_last)
    compiled = torch.compile(net, dynamic=False)
    with torch.no_grad():
        compiled(x)

    def run():
        with torch.no_grad():
            compiled(x)

    return run


@cache
def fx_model():
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "x86"
    net = prepare_fx(channels_last(model()), get_default_qconfig_mapping("x86"), images(1))
    with torch.no_grad():
        for step in range(CALIBRATION_BATCHES):
            net(images(16, step))
    return convert_fx(net)


def torch_fx_int8(batch):
    return timed(fx_model(), images(batch).to(memory_format=torch.channels_last))


class OnnxFiles:
    """The model as ONNX files, exported and quantized when first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def fp32(self):
        path = self.folder / "fp32.onnx"
        if not path.exists():
            batch = torch.export.Dim("batch", min=1, max=4096)
            torch.onnx.export(
                model(), (images(2),), path, dynamo=True, dynamic_shapes=({0: batch},),
                input_names=["input"], output_names=["logits"], external_data=False,
            )  # fmt: skip
        return path

    def int8(self):
        path = self.folder / "int8.onnx"
        if not path.exists():
            runtimes.quantize(self.fp32(), path, calibration())
        return path


def engines(threads, files):
    def onnx_runtime(precision, batch):
        return runtimes.onnx_runtime(getattr(files, precision)(), images(batch).numpy(), threads)

    def openvino(precision, batch):
        net = files.fp32() if precision == "fp32" else runtimes.nncf_model(files.fp32(), calibration())
        return runtimes.open_vino(net, images(batch).numpy(), threads)

    return {
        "fp32:torch-eager": torch_eager,
        "fp32:torch-channels-last": torch_channels_last,
        "fp32:torch-compile": torch_compile,
        "fp32:onnxruntime": lambda batch: onnx_runtime("fp32", batch),
        "fp32:openvino": lambda batch: openvino("fp32", batch),
        "int8:torch-fx": torch_fx_int8,
        "int8:onnxruntime": lambda batch: onnx_runtime("int8", batch),
        "int8:openvino": lambda batch: openvino("int8", batch),
    }


def main():
    global NAME
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=models.ZOO, default=NAME)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--files", type=Path, help="folder for the exported models [default: a temporary one]")
    args = parser.parse_args()
    NAME = args.model
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        files = OnnxFiles(args.files or Path(temporary))
        protocol.serve(engines(args.threads, files))


if __name__ == "__main__":
    main()
