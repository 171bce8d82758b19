"""Writes tests/golden/quantizers.json: QAT's quantizers forward and backward, by PyTorch's autograd in f64.

LSQ is checked against PyTorch's own operator (`torch._fake_quantize_learnable_per_channel_affine` and `..._per_tensor_affine`, whose
`grad_factor` is Esser et al.'s gradient scale), the others against their papers' equations written as autograd sees them, with
`Tensor.detach` where they pass a gradient straight through. lowbit learns the logarithm of a step: `dln_step` is the step times
PyTorch's gradient of the step. Tensors are made by the recipe, as layers.json says; a weight is [channels, fan_in].

    python golden_quantizers.py
"""

import json
from pathlib import Path

import numpy as np
import torch

import recipe

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
CHANNELS, FAN_IN, VALUES = 3, 24, 96
made = 0


def tensor(shape, scale=1.0, lowest=None):
    global made
    start, made = made * recipe.STRIDE, made + 1
    value = (recipe.signed(start, shape) * np.float32(scale)).astype(np.float32)
    if lowest is not None:
        value = np.maximum(value, np.float32(lowest))
    return torch.tensor(value.astype(np.float64)), {"start": start, "scale": scale}


def straight(rounded, x):
    """`rounded` forwards, the gradient of `x` backwards (Bengio et al. 2013)."""
    return x + (rounded - x).detach()


def flat(*tensors):
    return [[float(f"{x:.9g}") for x in t.detach().reshape(-1).tolist()] for t in tensors]


def weights(quantizer, bits):
    w, given = tensor((CHANNELS, FAN_IN), 0.5)
    w.requires_grad_()
    dy, given_dy = tensor((CHANNELS, FAN_IN))
    limit = 1 if bits == 1 else 2 ** (bits - 1) - 1
    steps = torch.tensor([0.21, 0.5, 1.7], dtype=torch.float64) / limit
    if quantizer == "lsq":
        # PyTorch's operators take f32; these steps are such that no value of the recipe lies at a tie.
        w32, s32 = w.detach().float().requires_grad_(), steps.float().requires_grad_()
        zeros = torch.zeros(CHANNELS, requires_grad=True)
        factor = 1 / (FAN_IN * limit) ** 0.5
        y = torch._fake_quantize_learnable_per_channel_affine(w32, s32, zeros, 0, -limit, limit, factor)
        y.backward(dy.float())
        y, dw, dln_step = y, w32.grad, s32.grad * s32
        steps = s32
    else:
        if bits == 1:
            # Courbariaux et al. 2016, section 1.2, and XNOR-Net's scale (Rastegari et al. 2016, equation 6), which learns nothing.
            steps = w.detach().abs().mean(1)
            inside = w.abs() <= 4 * steps[:, None]
            rounded = torch.where(w >= 0, 1.0, -1.0) * steps[:, None]
            y = straight(rounded, torch.where(inside, w, w.detach()))
        else:
            # Zhou et al. 2016, equation 9, on a symmetric grid; without tanh it is absmax.
            x = torch.tanh(w) if quantizer == "dorefa" else w
            steps = x.detach().abs().amax(1) / limit
            y = straight(torch.round(x / steps[:, None]).clamp(-limit, limit) * steps[:, None], x)
        y.backward(dy)
        dw, dln_step = w.grad, torch.zeros(CHANNELS)
    y, dw, dln_step, steps = flat(y, dw, dln_step, steps)
    return {"quantizer": quantizer, "bits": bits, "w": given, "dy": given_dy, "step": steps, "y": y, "dw": dw, "dln_step": dln_step}


def odd_weights(quantizer, bits):
    """On a mid-rise grid: odd numbers of half steps, `q + 1/2` whole ones with q in two's complement."""
    w, given = tensor((CHANNELS, FAN_IN), 0.5)
    w.requires_grad_()
    dy, given_dy = tensor((CHANNELS, FAN_IN))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if quantizer == "lsq":
        halves = torch.tensor([0.21, 0.5, 1.7], dtype=torch.float64) / (2**bits - 1)
        ln_halves = halves.log().requires_grad_()
        # Esser et al. 2020, section 2.2: what the gradient of the step is scaled by, and whose range ends where rounding leaves it.
        factor = 1 / (FAN_IN * high) ** 0.5
        step = 2 * ((ln_halves * factor) + (ln_halves * (1 - factor)).detach()).exp()[:, None]
        place = w / step - 0.5
        whole = torch.round(place.detach())
        inside = (whole >= low) & (whole <= high)
        y = (torch.where(inside, straight(whole, place), whole.clamp(low, high)) + 0.5) * step
    else:
        halves = w.detach().abs().amax(1) / (2**bits - 1)
        step = 2 * halves[:, None]
        y = straight((torch.round(w.detach() / step - 0.5).clamp(low, high) + 0.5) * step, w)
    y.backward(dy)
    dln_step = ln_halves.grad if quantizer == "lsq" else torch.zeros(CHANNELS)
    y, dw, dln_step, halves = flat(y, w.grad, dln_step, halves)
    return {"quantizer": quantizer, "grid": "mid-rise", "bits": bits, "w": given, "dy": given_dy, "step": halves, "y": y, "dw": dw,
            "dln_step": dln_step}


def activations(quantizer, bits, relu):
    lowest = 0.0 if relu else None
    x, given = tensor((VALUES,), 2.0, lowest)
    dy, given_dy = tensor((VALUES,))
    high = 2**bits - 1
    zero = 0 if relu else -(-high // 2)
    step = np.float32(1.3) / np.float32(high - zero)
    factor = 1 / (VALUES * high) ** 0.5
    if quantizer == "lsq":
        x32 = x.float().requires_grad_()
        s = torch.tensor([step], requires_grad=True)
        zeros = torch.tensor([float(zero)], requires_grad=True)
        y = torch._fake_quantize_learnable_per_tensor_affine(x32, s, zeros, 0, high, factor)
        y.backward(dy.float())
        dx, dln_step = x32.grad, s.grad * s
    else:
        # Choi et al. 2018, equations 1 to 3, the clipping value written as exp(ln_step) * levels.
        x.requires_grad_()
        ln_step = torch.tensor(float(step), dtype=torch.float64).log().requires_grad_()
        upper, lower = ln_step.exp() * (high - zero), -ln_step.exp() * zero
        # lowbit clips where rounding leaves the range, half a step beyond the clipping value.
        whole = torch.round(x.detach() / step)
        clipped = torch.where(whole > high - zero, upper, torch.where(whole < -zero, lower, x))
        y = straight(whole.clamp(-zero, high - zero) * float(step), clipped)
        y.backward(dy)
        dx, dln_step = x.grad, ln_step.grad.reshape(1) * factor
    y, dx, dln_step = flat(y, dx, dln_step)
    given |= {"lowest": 0.0} if relu else {}
    return {"quantizer": quantizer, "bits": bits, "relu": relu, "x": given, "dy": given_dy, "step": float(step), "y": y, "dx": dx,
            "dln_step": dln_step}


result = {
    "recipe": __doc__.splitlines()[0],
    "torch": torch.__version__,
    "channels": CHANNELS,
    "weights": [weights("lsq", b) for b in (8, 4, 2)] + [weights("dorefa", b) for b in (8, 4, 2)]
    + [weights("absmax", b) for b in (8, 4, 2, 1)],
    "activations": [activations(q, b, relu) for q in ("lsq", "pact") for b in (8, 4, 2) for relu in (True, False)],
}
result["weights"] += [odd_weights(q, b) for q in ("lsq", "absmax") for b in (4, 2)]
(GOLDEN / "quantizers.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
