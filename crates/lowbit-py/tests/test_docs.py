"""The tour of docs/python.md runs, and the package is typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_tour_runs_from_top_to_bottom(root: Path) -> None:
    text = (root / "docs/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ["<lowbit.Dataset landcover: 200 train", "epoch 2: loss", "% of 200 images right", "smaller", "images have dtype float32"]:
        assert part in done.stdout, done.stdout


def test_the_notebook_runs(root: Path) -> None:
    cells = json.loads((root / "crates/lowbit-py/examples/images_to_int8.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    # As many images and epochs as a test has time for.
    small = code.replace("limit=1000", "limit=100").replace("epochs=5", "epochs=1")
    assert small != code
    done = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 bits, trained" in done.stdout


USE = """
import lowbit as lb
import numpy as np

data = lb.load_dataset("landcover", resize="short:40", image_size=32)
model: lb.Model = lb.zoo("mlp", data.class_names, input=data.image_shape)
run: lb.Run = lb.train(model, data, on_epoch=print, ema=0.9, teacher=model, start_from="x.safetensors")
accuracy: float = lb.evaluate(run.model, data).accuracy
logits = model(np.zeros((1, 64, 64, 3), np.uint8))
reveal_type(logits)
opset: int = lb.quantize(model, data, passes="bias-correction").export_onnx("m.onnx", input="pixels").opset
found: str | None = lb.recommend("m.onnx", "photos").file
model.save(3)
lb.quantize(model, data, bit=8)
"""


def test_a_strict_checker_knows_the_package(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    use = tmp_path / "use.py"
    use.write_text(USE)
    import lowbit

    package = Path(lowbit.__file__).parent
    assert (package / "py.typed").is_file() and (package / "_lowbit.pyi").is_file()
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(use)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert "float" in done.stdout.splitlines()[0] and "32Bit" in done.stdout.splitlines()[0], done.stdout + done.stderr
    assert [line.split(":")[1] for line in errors] == ["13", "14"] and "bits" in errors[1], done.stdout


def test_so_does_pyright(tmp_path: Path) -> None:
    """With pyright installed (it fetches itself by npm, so that it is not among what CI installs)."""
    pytest.importorskip("pyright")
    (tmp_path / "use.py").write_text(USE)
    settings = {"include": ["use.py"], "typeCheckingMode": "strict", "pythonVersion": "3.10"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"]
    assert errors == [13, 14], done.stdout
    (shown,) = [each["message"] for each in found if each["severity"] == "information"]
    assert "ndarray" in shown and "32Bit" in shown
