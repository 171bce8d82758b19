"""Writes tests/golden/layers.json: single layers forward and backward in PyTorch (f64, rounded to f32), on formula-made
tensors.

How to read it: a tensor whose entry is `{"shape", "start"}` is made by the recipe: element j is s(start + j), times
`scale` where one stands there. Results lie beside it as flat lists. Shapes: maps [n, h, w, c], convolution weights
[out, kernel_h, kernel_w, in], linear weights [out, in]. `dx`, `dweight`, ... are the gradients of
sum(y * dy) for the given `dy`; for the cross-entropy of its own mean. Batch-norm's running statistics start at mean 0 and
variance 1, momentum 0.1, variance unbiased. In max-pooling the first of equal elements wins, row by row.
"""

import json
import platform
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import recipe

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"


class Case:
    """One layer: makes its tensors and collects what is known of them."""

    made = 0

    def __init__(self, op, **setting):
        self.entry = {"op": op, **setting, "given": {}, "result": {}}
        self.tensors = {}

    def give(self, name, shape, scale=1.0, offset=0.0, levels=None):
        """A tensor by the recipe; `levels` rounds it to so many steps a unit, which makes ties."""
        start, Case.made = Case.made * recipe.STRIDE, Case.made + 1
        value = recipe.signed(start, shape).astype(np.float64)
        value = np.round(value * levels) / levels if levels else value * scale + offset
        made = {"shape": list(shape), "start": start}
        made |= {"levels": levels} if levels else {}
        made |= {k: v for k, v, plain in [("scale", scale, 1.0), ("offset", offset, 0.0)] if v != plain}
        self.entry["given"][name] = made
        self.tensors[name] = torch.tensor(value, requires_grad=name != "dy")
        return self.tensors[name]

    def keep(self, **results):
        for name, value in results.items():
            flat = value.detach().double().numpy().astype(np.float32).reshape(-1)
            self.entry["result"][name] = [float(f"{x:.8g}") for x in flat]

    def backward(self, y):
        """Makes `dy`, and keeps y and all gradients."""
        y.backward(self.give("dy", y.shape))
        self.keep(y=y)
        self.keep(**{f"d{name}": t.grad for name, t in self.tensors.items() if name != "dy"})
        return self.entry


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def conv(shape, out, kernel, stride, padding, bias):
    case = Case("conv2d", stride=stride, padding=padding)
    x, weight = case.give("x", shape), case.give("weight", (out, kernel, kernel, shape[3]))
    b = case.give("bias", (out,)) if bias else None
    return case.backward(nhwc(F.conv2d(nchw(x), nchw(weight), b, stride, padding)))


def batch_norm(shape):
    case = Case("batch_norm", eps=1e-5, momentum=0.1)
    x = case.give("x", shape, 3.0, 0.5)
    weight, bias = case.give("weight", shape[3:], 0.5, 1.0), case.give("bias", shape[3:])
    mean, var = torch.zeros(shape[3]).double(), torch.ones(shape[3]).double()
    entry = case.backward(nhwc(F.batch_norm(nchw(x), mean, var, weight, bias, True, 0.1, 1e-5)))
    case.keep(running_mean=mean, running_var=var)
    return entry


def max_pool(shape):
    case = Case("max_pool_2x2", stride=2)
    return case.backward(nhwc(F.max_pool2d(nchw(case.give("x", shape, levels=2)), 2)))


def linear(n, inputs, outputs):
    case = Case("linear")
    x, weight = case.give("x", (n, inputs)), case.give("weight", (outputs, inputs))
    return case.backward(F.linear(x, weight, case.give("bias", (outputs,))))


def cross_entropy(n, classes, scale):
    case = Case("cross_entropy", labels=[int(x) for x in recipe.hash32(np.arange(n) + 777) % classes])
    logits = case.give("logits", (n, classes), scale)
    loss = F.cross_entropy(logits, torch.tensor(case.entry["labels"]))
    loss.backward()
    case.keep(loss=loss, dlogits=logits.grad)
    return case.entry


def global_avg_pool(shape):
    case = Case("global_avg_pool")
    return case.backward(case.give("x", shape).mean((1, 2)))


def add(shape):
    case = Case("add_relu")
    return case.backward(torch.relu(case.give("a", shape) + case.give("b", shape)))


def main():
    cases = [
        conv((2, 7, 6, 3), 5, 3, 1, 0, True),
        conv((2, 7, 6, 3), 5, 3, 1, 1, False),
        conv((1, 9, 8, 4), 6, 5, 1, 0, True),
        conv((2, 7, 8, 5), 4, 3, 2, 1, False),
        conv((2, 6, 7, 5), 7, 1, 2, 0, False),
        conv((1, 5, 5, 17), 18, 3, 1, 1, True),
        batch_norm((3, 4, 5, 6)),
        batch_norm((2, 3, 3, 19)),
        max_pool((2, 6, 6, 3)),
        max_pool((1, 7, 5, 4)),
        linear(3, 17, 9),
        cross_entropy(6, 10, 1.0),
        cross_entropy(3, 4, 60.0),
        global_avg_pool((2, 5, 4, 6)),
        add((2, 3, 4, 5)),
    ]
    golden = {
        "made_by": "bench/peers/golden_layers.py",
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "how_to_read": " ".join(__doc__.split()),
        "recipe": {k: recipe.RECIPE[k] for k in ("hash", "unit")}
        | {"scale, offset": "s * scale + offset", "levels": "round_ties_even(s * levels) / levels"},
        "cases": cases,
    }
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / "layers.json"
    head = json.dumps({**golden, "cases": []}, indent=1).removesuffix("[]\n}")
    path.write_text(head + "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n}\n")
    json.loads(path.read_text())
    print(path.name, path.stat().st_size, "bytes,", len(cases), "cases")


if __name__ == "__main__":
    main()
