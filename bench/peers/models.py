"""lowbit's models in PyTorch, with lowbit's parameter names and a way between the two weight layouts."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

import recipe


def eurosat_cnn(classes=10, size=64):
    """`eurosat-cnn`: 434,602 trained parameters for 64x64x3 and ten classes."""
    layers, channels = [], 3
    for i, (out, kernel) in enumerate([(32, 5), (64, 5), (96, 3)], 1):
        layers += [(f"conv{i}", nn.Conv2d(channels, out, kernel)), (f"bn{i}", nn.BatchNorm2d(out))]
        layers += [(f"relu{i}", nn.ReLU()), (f"pool{i}", nn.MaxPool2d(2))]
        channels, size = out, (size - kernel + 1) // 2
    layers.append(("flatten", nn.Flatten()))
    features = channels * size * size
    for i in (1, 2):
        layers += [(f"fc{i}", nn.Linear(features, 128)), (f"relu{i + 3}", nn.ReLU())]
        features = 128
    return nn.Sequential(OrderedDict([*layers, ("fc3", nn.Linear(features, classes))]))


class Block(nn.Module):
    """ResNet's basic block (He et al. 2016), with a projection where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.project = stride != 1 or inputs != outputs
        if self.project:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.shortcut_bn(self.shortcut(x)) if self.project else x))


def resnet8(classes=10):
    """`resnet8` for 32x32x3."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            block1=Block(16, 16, 1),
            block2=Block(16, 32, 2),
            block3=Block(32, 64, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, classes),
        )
    )


# lowbit's name for a model: how it is made, and the side of its images in the benchmarks.
ZOO = {"eurosat-cnn": (eurosat_cnn, 64), "resnet8": (resnet8, 32)}


def fan_in(parameter):
    """Inputs that one output sums over."""
    return parameter[0].numel()


def flattened_channels(model):
    """Channels of the maps that the first linear layer takes flattened, by the layer's weight name; else empty."""
    channels, seen = {}, None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            seen = module.out_channels
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            seen = None
        elif isinstance(module, nn.Linear):
            if seen:
                channels[f"{name}.weight"] = seen
            seen = None
    return channels


def to_lowbit(name, tensor, flattened):
    """A PyTorch parameter in lowbit's order: OIHW to OHWI, flattened (c, h, w) to (h, w, c)."""
    if tensor.dim() == 4:
        return tensor.permute(0, 2, 3, 1).contiguous()
    if name in flattened:
        side = round((tensor.shape[1] / flattened[name]) ** 0.5)
        maps = tensor.reshape(tensor.shape[0], flattened[name], side, side)
        return maps.permute(0, 2, 3, 1).reshape(tensor.shape)
    return tensor


def from_lowbit(name, tensor, flattened):
    """The way back."""
    if tensor.dim() == 4:
        return tensor.permute(0, 3, 1, 2).contiguous()
    if name in flattened:
        side = round((tensor.shape[1] / flattened[name]) ** 0.5)
        maps = tensor.reshape(tensor.shape[0], side, side, flattened[name])
        return maps.permute(0, 3, 1, 2).reshape(tensor.shape)
    return tensor


@torch.no_grad()
def initialize(model):
    """Sets every parameter by the recipe; returns name, shape in lowbit's layout and fan-in of each."""
    flattened, described, weights_of = flattened_channels(model), [], dict(model.named_parameters())
    for k, (name, parameter) in enumerate(weights_of.items()):
        shape = list(to_lowbit(name, parameter, flattened).shape)
        module = model.get_submodule(name.rpartition(".")[0])
        entry = {"name": name, "shape": shape}
        if isinstance(module, nn.BatchNorm2d):
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            entry["fan_in"] = fan_in(module.weight)
            value = torch.from_numpy(np.ascontiguousarray(recipe.weight(k, shape, entry["fan_in"])))
            parameter.copy_(from_lowbit(name, value, flattened))
        described.append(entry)
    return described


def normalized(images, dtype=torch.float32):
    """u8 `[n, h, w, c]` as the network's input `[n, c, h, w]`."""
    x = torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2).contiguous()
    return (x / 255 - 0.5) / 0.5
