"""Writes tests/golden/operators.json: operators beyond those of the zoo, forward and (where lowbit trains them) backward in
PyTorch (f64, rounded to f32), on formula-made tensors. How to read it: as layers.json (golden_layers.py), with the
attributes of the operator under their own names, padding as [top, left, bottom, right].
"""

import json
import platform

import numpy as np
import torch
from torch.nn import functional as F

import recipe
from golden_layers import GOLDEN, Case, nchw, nhwc


def sigmoid(shape):
    case = Case("sigmoid")
    return case.backward(torch.sigmoid(case.give("x", shape, 6.0)))


def mul(shape, factors):
    case = Case("mul")
    return case.backward(case.give("a", shape) * case.give("b", factors))


def padded(x, padding, value):
    top, left, bottom, right = padding
    return F.pad(nchw(x), (left, right, top, bottom), value=value)


def max_pool(shape, kernel, stride, padding):
    case = Case("max_pool", kernel=kernel, stride=stride, padding=padding)
    x = padded(case.give("x", shape, levels=2), padding, -1e9)
    return case.backward(nhwc(F.max_pool2d(x, kernel, stride)))


def avg_pool(shape, kernel, stride, padding):
    """Pixels beyond the image do not count."""
    case = Case("avg_pool", kernel=kernel, stride=stride, padding=padding)
    x = case.give("x", shape)
    sums = F.avg_pool2d(padded(x, padding, 0.0), kernel, stride)
    shares = F.avg_pool2d(padded(torch.ones(shape).double(), padding, 0.0), kernel, stride)
    return case.backward(nhwc(sums / shares))


def conv(shape, out, kernel, stride, padding, dilation, groups, backward):
    case = Case("conv", kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    # Forward alone runs on images: a pixel is 8 (x + 1).
    x = case.give("x", shape) if backward else case.give("x", shape, levels=8)
    weight = case.give("weight", (out, *kernel, shape[3] // groups))
    y = F.conv2d(padded(x, padding, 0.0), nchw(weight), case.give("bias", (out,)), stride, 0, dilation, groups)
    if backward:
        return case.backward(nhwc(y))
    case.keep(y=nhwc(y))
    return case.entry


def clip(shape, ceiling):
    case = Case("clip", ceiling=ceiling)
    return case.backward(case.give("x", shape, 3.0).clamp(0, ceiling))


def concat(*shapes):
    case = Case("concat")
    return case.backward(torch.cat([case.give(f"x{i}", shape) for i, shape in enumerate(shapes)], 3))


def slice_of(shape, first, channels):
    case = Case("slice", first=first, channels=channels)
    return case.backward(case.give("x", shape)[..., first : first + channels])


def shuffle(shape, groups):
    case = Case("shuffle", groups=groups)
    return case.backward(nhwc(torch.channel_shuffle(nchw(case.give("x", shape)), groups)))


def add(shape, summands):
    case = Case("add")
    return case.backward(case.give("a", shape) + case.give("b", summands))


def softmax(shape):
    case = Case("softmax")
    return case.backward(torch.softmax(case.give("x", shape, 4.0), 3))


def layer_norm(shape, eps):
    case = Case("layer_norm", eps=eps)
    return case.backward(F.layer_norm(case.give("x", shape, 3.0, 0.5), shape[3:], eps=eps))


def attention(queries, keys, channels, heads, scale):
    """Channels of values are `channels`; pixels are tokens."""
    case = Case("attention", heads=heads, scale=scale)
    tensors = case.give("q", queries), case.give("k", keys), case.give("v", (*keys[:3], channels))
    split = [t.reshape(t.shape[0], -1, heads, t.shape[3] // heads).transpose(1, 2) for t in tensors]
    y = F.scaled_dot_product_attention(*split, scale=scale).transpose(1, 2)
    return case.backward(y.reshape(*queries[:3], channels))


def main():
    cases = [
        sigmoid((2, 3, 4, 5)),
        mul((2, 3, 4, 5), (2, 3, 4, 5)),
        mul((2, 3, 4, 5), (2, 1, 1, 5)),
        max_pool((2, 7, 6, 3), [3, 3], [2, 2], [1, 1, 1, 1]),
        max_pool((1, 6, 8, 2), [2, 3], [1, 2], [0, 2, 1, 0]),
        avg_pool((2, 7, 6, 3), [3, 3], [2, 2], [1, 1, 1, 1]),
        avg_pool((1, 6, 8, 2), [2, 3], [2, 1], [1, 0, 0, 2]),
        conv((2, 7, 9, 3), 4, [1, 3], [1, 1], [0, 1, 0, 1], [1, 1], 1, True),
        conv((1, 8, 7, 5), 3, [3, 2], [2, 2], [2, 0, 1, 1], [1, 1], 1, True),
        conv((2, 8, 9, 4), 6, [3, 3], [1, 1], [2, 2, 2, 2], [2, 2], 1, False),
        conv((1, 9, 11, 4), 5, [3, 2], [2, 3], [1, 2, 0, 1], [1, 4], 1, False),
        conv((1, 11, 13, 2), 3, [2, 3], [3, 4], [0, 2, 2, 0], [3, 6], 1, False),
        conv((2, 6, 5, 6), 9, [3, 3], [1, 1], [1, 1, 1, 1], [1, 1], 3, False),
        conv((1, 7, 7, 8), 8, [3, 3], [2, 2], [1, 1, 1, 1], [1, 1], 8, False),
        conv((2, 7, 7, 8), 8, [3, 3], [2, 2], [1, 1, 1, 1], [1, 1], 8, True),
        conv((3, 6, 9, 5), 5, [2, 3], [1, 2], [0, 2, 1, 0], [2, 1], 5, True),
        clip((2, 5, 4, 5), 1.5),
        concat((2, 3, 4, 2), (2, 3, 4, 5)),
        slice_of((2, 3, 4, 7), 2, 4),
        shuffle((2, 3, 4, 6), 3),
        conv((2, 6, 5, 6), 9, [3, 3], [1, 1], [1, 1, 1, 1], [1, 1], 3, True),
        conv((2, 8, 9, 4), 6, [3, 3], [2, 2], [2, 2, 2, 2], [2, 2], 1, True),
        conv((1, 9, 11, 4), 6, [3, 2], [2, 3], [1, 2, 0, 1], [1, 4], 2, True),
        conv((2, 5, 4, 3), 6, [1, 2], [1, 1], [1, 0, 2, 3], [1, 1], 3, True),
        add((2, 3, 4, 5), (2, 1, 1, 5)),
        softmax((2, 3, 2, 7)),
        layer_norm((2, 3, 2, 7), 1e-5),
        attention((2, 3, 4, 6), (2, 3, 4, 6), 6, 2, 0.7),
        attention((1, 2, 2, 8), (1, 3, 5, 8), 20, 4, -1.5),
    ]
    golden = {
        "made_by": "bench/peers/golden_operators.py",
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "how_to_read": " ".join(__doc__.split()),
        "recipe": {k: recipe.RECIPE[k] for k in ("hash", "unit")},
        "cases": cases,
    }
    path = GOLDEN / "operators.json"
    head = json.dumps({**golden, "cases": []}, indent=1).removesuffix("[]\n}")
    path.write_text(head + "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n}\n")
    print(path.name, path.stat().st_size, "bytes,", len(cases), "cases")


if __name__ == "__main__":
    main()
