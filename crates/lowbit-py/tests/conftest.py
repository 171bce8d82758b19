"""What the tests share: few synthetic images, and a model that was trained on them for a moment."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import lowbit as lb

SIZE = 32
LIMIT = 96


@pytest.fixture(scope="session")
def data() -> lb.Dataset:
    return lb.load_dataset("landcover", limit=LIMIT, image_size=SIZE, cache=False)


@pytest.fixture(scope="session")
def trained(data: lb.Dataset) -> tuple[lb.Model, lb.Run]:
    model = lb.zoo("resnet8", len(data.class_names), input=data.image_shape)
    return model, lb.train(model, data, epochs=2, batch_size=16)


@pytest.fixture
def model(trained: tuple[lb.Model, lb.Run]) -> lb.Model:
    """A copy, which a test may change."""
    return copy.copy(trained[0])


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).resolve().parents[3]
