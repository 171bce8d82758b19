"""What Python gives is what the command line gives, to the bit; and the command comes with the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import LIMIT, SIZE

import lowbit as lb

COMMAND = Path(sys.executable).with_name("lowbit")
DATA = ["--data", "landcover", "--limit", str(LIMIT), "--image-size", str(SIZE), "--no-cache"]


def lowbit(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_same_training_ends_in_the_same_file(
    tmp_path: Path, data: lb.Dataset, trained: tuple[lb.Model, lb.Run]
) -> None:
    model, run = trained
    done = lowbit(
        "train", "--model", "resnet8", "--epochs", "2", "--batch-size", "16", *DATA, "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert [epoch["logits_digest"] for epoch in theirs["epochs"]] == [epoch.logits_digest for epoch in run.epochs]
    assert theirs["data"]["fingerprint"] == data.fingerprint
    file = tmp_path / "outputs/train/model_fp32.safetensors"
    model.save(tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == file.read_bytes()
    for extra, how in [
        (["--bits", "8"], {}),
        (["--bits", "4", "--observer", "mse", "--calibration-images", "40"], {"bits": 4, "observer": "mse", "calibration_images": 40}),
    ]:
        done = lowbit("quantize", str(file), "--output", "q.safetensors", *DATA, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        q = lb.quantize(lb.load(file), data, **how)
        q.save(tmp_path / "q_ours.safetensors")
        assert (tmp_path / "q_ours.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()
        done = lowbit("eval", "q.safetensors", *DATA, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        theirs, ours = json.loads(done.stdout), lb.evaluate(q, data)
        assert theirs["accuracy_percent"] == 100 * ours.accuracy
        assert theirs["loss"] == ours.loss
        assert theirs["confusion"] == ours.confusion.tolist()


def test_the_same_training_at_two_bits_ends_in_the_same_packed_file(tmp_path: Path, data: lb.Dataset) -> None:
    done = lowbit(
        "sweep", "--widths", "2", "--seeds", "1", "--model", "resnet8", "--epochs", "2", "--batch-size", "16", *DATA,
        "--out", "o", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (theirs,) = tmp_path.glob("o/**/model_2bit.safetensors")
    model = lb.zoo("resnet8", len(data.class_names), input=data.image_shape)
    run = lb.train(model, data, epochs=2, batch_size=16, bits=2)
    assert run.model.bits == 2 and run.model.is_quantized and model.bits == 32
    run.model.save(tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == theirs.read_bytes()
    found = lb.evaluate(run.model, data)
    assert found.bit_exact_with_training is True
    assert found.accuracy == run.test_accuracy


def test_the_command_comes_with_the_package(tmp_path: Path) -> None:
    version = lowbit("--version", cwd=tmp_path)
    assert version.stdout.split() == ["lowbit", lb.__version__]
    wrong = lowbit("quantise", cwd=tmp_path)
    assert wrong.returncode == 2 and "quantize" in wrong.stderr
    module = subprocess.run([sys.executable, "-m", "lowbit", "--version"], capture_output=True, text=True)
    assert module.stdout == version.stdout


def test_a_task_of_the_local_queue_runs_through_the_package(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path)}
    arguments = ["submit", "compare", "--model", "mlp", "--epochs", "1", *DATA, "--out", "o", "--on", "local"]
    done = subprocess.run([str(COMMAND), *arguments], cwd=tmp_path, capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    for _ in range(600):
        if list(tmp_path.glob("o/**/comparison_results.json")):
            return
        time.sleep(0.2)
    raise AssertionError(f"no result of {done.stdout}")
