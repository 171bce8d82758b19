"""From PyTorch and back to numbers: torchvision's networks, by hand (CI has no torch)."""

from __future__ import annotations

import numpy as np
import pytest

import lowbit as lb

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")
pytest.importorskip("onnx")

NETWORKS = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x1_0", "mnasnet0_5"]


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Statistics and biases that are not what they begin with, so that each of them counts."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.2, 0.2)
    return module.eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_torchvision_gives_the_same_logits(name: str) -> None:
    torch.manual_seed(1)
    module = lively(getattr(models, name)(num_classes=10))
    images = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    model = lb.from_torch(module, torch.zeros(1, 3, 64, 64), preprocess="imagenet")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        pixels = (torch.from_numpy(images).float() / 255 - mean) / std
        expected = module(pixels.permute(0, 3, 1, 2)).numpy()
    found = model(torch.from_numpy(images))
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()
    # What trains there goes on as it was.
    assert lb.from_torch(module.train(), torch.zeros(1, 3, 64, 64)).input_shape == (64, 64, 3) and module.training


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_exported_or_run_is_one_line() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(x.flatten(1))[1]

    class Unknown(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x.flatten(1), 1)[:, :10]

    for module in (Odd(), Unknown()):
        with pytest.raises(lb.ModelError) as error:
            lb.from_torch(module, torch.zeros(1, 3, 8, 8))
        assert "\n" not in str(error.value)
    with pytest.raises(lb.DataError, match="cannot be read as an array|dtype"):
        lb.zoo("mlp", 10, input=(8, 8, 3))(torch.zeros(1, 8, 8, 3, dtype=torch.uint8, requires_grad=False, device="meta"))
