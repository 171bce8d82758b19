"""Training steps of a model of the zoo in PyTorch: Adam, cross-entropy; serves run.py's lines."""

import argparse
import warnings

import torch

import models
import protocol
import recipe
import torch_step
from torch_step import LAST


NAME = "eurosat-cnn"


def step(net, batch, *how):
    images, labels = recipe.batch(0, batch, models.ZOO[NAME][1])
    return torch_step.step(net, models.normalized(images), torch.from_numpy(labels), *how)


def fresh():
    net = models.ZOO[NAME][0]()
    models.initialize(net)
    return net


def qat():
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    example = models.normalized(recipe.batch(0, 1, models.ZOO[NAME][1])[0])
    return prepare_qat_fx(fresh().train(), get_default_qat_qconfig_mapping("x86"), example)


ENGINES = {
    "train:torch-eager": lambda batch: step(fresh(), batch),
    "train:torch-channels-last": lambda batch: step(fresh(), batch, LAST),
    "train:torch-compile": lambda batch: step(fresh(), batch, torch.contiguous_format, torch.compile),
    "train:torch-compile-channels-last": lambda batch: step(fresh(), batch, LAST, torch.compile),
    "qat:torch-fx": lambda batch: step(qat(), batch),
    "qat:torch-fx-channels-last": lambda batch: step(qat(), batch, LAST),
}


def main():
    global NAME
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=models.ZOO, default=NAME)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    NAME = args.model
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    protocol.serve(ENGINES)


if __name__ == "__main__":
    main()
