"""What does quantization do to an image model: its size, its speed, its accuracy?

    import lowbit as lb

    data = lb.load_dataset("EuroSAT_RGB.zip")
    model = lb.zoo("eurosat-cnn", classes=10)
    lb.train(model, data, epochs=10, on_epoch=print)
    q = lb.quantize(model, data, bits=8)
    print(lb.compare(model, q, data))

Images are uint8 numpy arrays ``[n, height, width, channels]``, channels last. Heavy calls let other Python threads run.
docs/python.md is a tour.
"""

from __future__ import annotations

from ._data import Dataset, load_dataset
from ._errors import (
    DataError,
    Error,
    FileError,
    InternalError,
    ModelError,
    SeenError,
    SettingError,
    TrainingError,
    WireError,
)
from ._lowbit import __version__, num_threads
from ._measure import Comparison, Evaluation, compare, evaluate
from ._model import Exported, Model, load, new_head, quantize, zoo, zoo_names
from ._recommend import Recommendation, recommend
from ._settings import set_num_threads
from ._train import EpochRecord, Run, recipe, train

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._classifier import Classifier as Classifier
    from ._torch import from_torch as from_torch

__all__ = [
    "Classifier",
    "Comparison",
    "DataError",
    "Dataset",
    "EpochRecord",
    "Error",
    "Evaluation",
    "Exported",
    "FileError",
    "InternalError",
    "Model",
    "ModelError",
    "Recommendation",
    "Run",
    "SeenError",
    "SettingError",
    "TrainingError",
    "WireError",
    "__version__",
    "compare",
    "evaluate",
    "from_torch",
    "load",
    "load_dataset",
    "new_head",
    "num_threads",
    "quantize",
    "recipe",
    "recommend",
    "set_num_threads",
    "train",
    "zoo",
    "zoo_names",
]


def __getattr__(name: str) -> object:
    # What needs other packages is imported when it is asked for.
    if name == "Classifier":
        from ._classifier import Classifier

        return Classifier
    if name == "from_torch":
        from ._torch import from_torch

        return from_torch
    raise AttributeError(f"module 'lowbit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
