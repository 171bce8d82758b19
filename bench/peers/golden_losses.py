"""Losses with soft targets as PyTorch computes them: the numbers of lowbit's tests (crates/lowbit/src/train/loss.rs).

    python golden_losses.py
"""

import torch
from torch.nn import functional

logits = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, 0.5]], dtype=torch.float64, requires_grad=True)
labels, others, share, smoothing = torch.tensor([2, 1]), torch.tensor([0, 2]), 0.7, 0.1
teacher, temperature, weight = torch.tensor([[1.0, 0.0, 3.0], [-1.0, 2.0, 0.5]], dtype=torch.float64), 4.0, 0.7


def smoothed(target):
    return functional.cross_entropy(logits, target, label_smoothing=smoothing)


print("SMOOTHED", smoothed(labels).item())
print("MIXED", (share * smoothed(labels) + (1 - share) * smoothed(others)).item())
soft = functional.kl_div(
    functional.log_softmax(logits / temperature, 1), functional.softmax(teacher / temperature, 1), reduction="batchmean"
)
taught = (1 - weight) * functional.cross_entropy(logits, labels) + weight * temperature**2 * soft
taught.backward()
print("TAUGHT", taught.item())
print("TAUGHT_GRAD", logits.grad.flatten().tolist())
