"""From PyTorch."""

from __future__ import annotations

import os

from ._errors import ModelError
from ._model import Model, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def from_torch(
    module: Any,
    example: Any,
    *,
    preprocess: str = "unit",
    labels: str | os.PathLike[str] | None = None,
    opset: int = 17,
) -> Model:
    """A PyTorch network, by way of ONNX.

    Args:
        module: a classifier (``torch.nn.Module``) that maps ``[n, channels, height, width]`` to ``[n, classes]``. It is exported
            in evaluation mode.
        example: an input of it, float32 ``[1, channels, height, width]``: its shape counts, not its values.
        preprocess: how pixels become the module's input: ``"imagenet"``, ``"half"`` (-1..1), ``"unit"`` (0..1), ``"none"``
            (0..255), or a .toml file with mean and std.
        labels: a file with the names of the classes, one a line.
        opset: version of ONNX's operators to export with.

    Raises:
        ModelError: PyTorch cannot export it, or it has an operator that lowbit does not run (docs/onnx.md).
    """
    import tempfile
    import warnings

    import torch

    was_training = module.training
    with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
        path = os.path.join(folder, f"{type(module).__name__}.onnx")
        try:
            module.eval()
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # The exporter that needs no further package.
                torch.onnx.export(module, (example,), path, opset_version=opset, dynamo=False)
        except Exception as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"{type(module).__name__}: PyTorch cannot export it: {line}") from error
        finally:
            module.train(was_training)
        return load(path, preprocess=preprocess, labels=labels)
