"""Writes tests/golden/{eurosat_cnn,resnet8}_*.json: PyTorch's training of the models from the recipe's weights and data.

The same run in f64 stands beside the f32 one: their distance is what rounding alone does, and so the measure for a
tolerance. How to read the files: `recipe` makes weights and data; `loss[i]` is the mean cross-entropy of step i before its
update; `gradient_norm` is each parameter's L2 norm at step 0 (clipped, where gradients are), `weight_norm` after the last step; `eval_logits` are those
of the first four samples of step 0 after the last step, with running statistics.
"""

import json
import platform
from pathlib import Path

import numpy as np
import torch

import models
import recipe

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
OPTIMIZERS = {
    "adam": ("Adam, lr 0.001, betas 0.9 and 0.999, eps 1e-8", lambda p: torch.optim.Adam(p, lr=1e-3)),
    "sgd": ("SGD, lr 0.01, momentum 0.9 (v = 0.9 v + g; w -= lr v)", lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9)),
}


def decaying(parameters):
    """Nesterov's momentum, and weight decay for what has more than one dimension."""
    groups = {True: [], False: []}
    for parameter in parameters:
        groups[parameter.ndim > 1].append(parameter)
    of = [{"params": groups[True], "weight_decay": 5e-2}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.SGD(of, lr=1e-2, momentum=0.9, nesterov=True)


OPTIMIZERS["regularized"] = (
    "SGD, lr 0.01, Nesterov momentum 0.9, weight decay 0.05 on weights of convolutions and linear layers alone, gradients "
    "clipped to a norm of 1 before that; label smoothing 0.1",
    decaying,
)
SMOOTHING = {"regularized": 0.1}
CLIP = {"regularized": 1.0}


def norms(model, of):
    return {name: float(of(p).double().norm()) for name, p in model.named_parameters()}


def train(build, size, batch, steps, optimizer, dtype, smoothing=0.0, clip=None):
    model = build().train()
    parameters = models.initialize(model)
    model.to(dtype)
    optimizer, result = optimizer(model.parameters()), {"loss": []}
    for step in range(steps):
        images, labels = recipe.batch(step, batch, size)
        optimizer.zero_grad()
        logits = model(models.normalized(images, dtype))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=smoothing)
        loss.backward()
        for convolution in (m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None):
            convolution.bias.grad.zero_()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        if step == 0:
            result["first_logits"] = logits[:4].tolist()
            result["gradient_norm"] = norms(model, lambda p: p.grad)
        result["loss"].append(loss.item())
        optimizer.step()
    result["weight_norm"] = norms(model, lambda p: p.detach())
    buffers = model.named_buffers()
    result["running_norm"] = {n: float(b.double().norm()) for n, b in buffers if "running" in n}
    with torch.no_grad():
        images, _ = recipe.batch(0, 4, size)
        result["eval_logits"] = model.eval()(models.normalized(images, dtype)).tolist()
    return parameters, result


def write(name, build, size, batch, steps, optimizer):
    words, make = OPTIMIZERS[optimizer]
    more = SMOOTHING.get(optimizer, 0.0), CLIP.get(optimizer)
    parameters, f32 = train(build, size, batch, steps, make, torch.float32, *more)
    _, f64 = train(build, size, batch, steps, make, torch.float64, *more)
    apart = [abs(a - b) for a, b in zip(f32["loss"], f64["loss"])]
    logits_apart = np.abs(np.array(f32["eval_logits"]) - np.array(f64["eval_logits"])).max()
    golden = {
        "made_by": "bench/peers/golden_training.py",
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "how_to_read": " ".join(__doc__.split()),
        "recipe": recipe.RECIPE,
        "setting": {
            "input": [size, size, 3],
            "classes": 10,
            "batch": batch,
            "steps": steps,
            "optimizer": words,
            "batch_norm": "eps 1e-5, momentum 0.1, running variance from the unbiased batch variance",
            "loss": "cross-entropy, mean over the batch",
        },
        "parameter_count": sum(int(np.prod(p["shape"])) for p in parameters),
        "parameters": parameters,
        "f32_f64_distance": {"loss": max(apart), "eval_logits": float(logits_apart)},
        "note": "The gradient of a convolution's bias in front of a batch-norm is zero, but for rounding, of which Adam "
        "would make whole steps; so the script sets it to zero, and these biases stay as they start.",
        "f32": f32,
        "f64": f64,
    }
    path = GOLDEN / f"{name}.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(path.name, f"{f32['loss'][0]:.4f} -> {f32['loss'][-1]:.4f}", golden["f32_f64_distance"], golden["parameter_count"])
    return golden


def main():
    torch.set_num_threads(1)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    golden = write("eurosat_cnn_loss_curve", models.eurosat_cnn, 64, 16, 20, "adam")
    assert golden["parameter_count"] == 434_602
    write("eurosat_cnn_sgd", models.eurosat_cnn, 64, 16, 10, "sgd")
    write("resnet8_adam", models.resnet8, 32, 8, 5, "adam")
    write("resnet8_sgd", models.resnet8, 32, 8, 5, "sgd")
    write("resnet8_regularized", models.resnet8, 32, 8, 5, "regularized")


if __name__ == "__main__":
    main()
