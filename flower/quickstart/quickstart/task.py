"""Network, data and training: those of Flower's PyTorch quickstart."""

from typing import Any, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lowbit as lb


class Net(nn.Module):
    """The quickstart's network for CIFAR-10: two convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out


def load(config: Mapping[str, Any]) -> lb.Dataset:
    return lb.load_dataset(str(config["data"]), limit=int(config["limit"]), seed=int(config["seed"]))


def tensors(images: np.ndarray, labels: np.ndarray) -> TensorDataset:
    """Pixels of -1 to 1, channels first."""
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
    return TensorDataset(values, torch.from_numpy(labels.astype(np.int64)))


def part(config: Mapping[str, Any], client: int) -> tuple[TensorDataset, TensorDataset]:
    """A client's images: an equal share, drawn at random; a fifth of them is kept for testing."""
    data = load(config)
    order = np.random.default_rng(int(config["seed"])).permutation(len(data.train_labels))
    mine = np.array_split(order, int(config["clients"]))[client]
    cut = len(mine) * 4 // 5
    images, labels = data.train_images, data.train_labels
    return tensors(images[mine[:cut]], labels[mine[:cut]]), tensors(images[mine[cut:]], labels[mine[cut:]])


def train(net: Net, data: TensorDataset, epochs: int, lr: float, batch_size: int) -> float:
    """Returns the mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    losses = []
    for _ in range(epochs):
        for images, labels in DataLoader(data, batch_size=batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses))


def test(net: Net, data: TensorDataset) -> tuple[float, float]:
    """Returns loss and accuracy."""
    net.eval()
    loss, right = 0.0, 0
    with torch.no_grad():
        for images, labels in DataLoader(data, batch_size=256):
            logits = net(images)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(1) == labels).sum())
    return loss / len(data), right / len(data)
