"""Training steps of any image classifier in an ONNX file in PyTorch: Adam, cross-entropy; serves run.py's lines.

`onnx2torch` makes the module, so that it computes what the file says: batch-norms that the exporter folded stay folded. It cannot be
prepared for quantization-aware training; that is torchvision's module of the same architecture, whose batch-norms are trained too.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch

import protocol
import torch_step
from torch_step import LAST


def batch_of(count, side, classes):
    numbers = np.random.default_rng(0)
    images = torch.from_numpy(numbers.random((count, 3, side, side), np.float32) * 2 - 1)
    return images, torch.from_numpy(numbers.integers(0, classes, count))


def step(net, batch, side, *how):
    images, _ = batch_of(batch, side, 2)
    classes = net.eval()(images[:2]).shape[1]
    return torch_step.step(net, images, batch_of(batch, side, classes)[1], *how)


def engines(args):
    def imported():
        import onnx2torch

        return onnx2torch.convert(str(args.file))

    def qat():
        import torchvision
        from torch.ao.quantization import get_default_qat_qconfig_mapping
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        net = getattr(torchvision.models, args.torchvision)(num_classes=10).train()
        return prepare_qat_fx(net, get_default_qat_qconfig_mapping("x86"), (batch_of(2, args.side, 2)[0],))

    side = args.side
    found = {
        "train:torch-eager": lambda batch: step(imported(), batch, side),
        "train:torch-channels-last": lambda batch: step(imported(), batch, side, LAST),
        "train:torch-compile": lambda batch: step(imported(), batch, side, torch.contiguous_format, torch.compile),
        "train:torch-compile-channels-last": lambda batch: step(imported(), batch, side, LAST, torch.compile),
    }
    if args.torchvision:
        found["qat:torch-fx"] = lambda batch: step(qat(), batch, side)
        found["qat:torch-fx-channels-last"] = lambda batch: step(qat(), batch, side, LAST)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of the images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--torchvision", help="name of the architecture in torchvision, for quantization-aware training")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    protocol.serve(engines(args))


if __name__ == "__main__":
    main()
