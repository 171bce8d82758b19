"""TensorBoard itself reads the learning curves that the command writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_command_line import lowbit

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

SMALL = ["--model", "mlp", "--limit", "96", "--image-size", "16", "--batch-size", "16", "--no-cache", "--quiet"]


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(run))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def run(folder: Path, *arguments: str) -> Any:
    done = lowbit(*arguments, *SMALL, "--tensorboard", "curves", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def test_curves_of_a_training_are_its_epochs(tmp_path: Path) -> None:
    # The second one takes the place of the first, which was longer.
    run(tmp_path, "train", "--epochs", "4")
    results = run(tmp_path, "train", "--epochs", "3", "--seed", "2")
    found = curves(tmp_path / "curves/train")
    for tag, key in [
        ("loss/train", "train_loss"),
        ("loss/test", "test_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/test", "test_accuracy"),
        ("learning_rate", "lr"),
        ("images_per_second", "train_img_per_s"),
    ]:
        expected = [(epoch["epoch"], pytest.approx(epoch[key], rel=1e-6)) for epoch in results["epochs"]]
        assert found.pop(tag) == expected, tag
    assert not found


def test_every_run_of_a_sweep_and_a_head_to_head_has_curves(tmp_path: Path) -> None:
    run(tmp_path, "sweep", "--epochs", "2", "--widths", "32,2", "--seeds", "2", "--warm-start", "--jobs", "2")
    run(tmp_path, "qat-vs-ptq", "--epochs", "1", "--seeds", "1", "--bits", "4")
    names = sorted(path.name for path in (tmp_path / "curves").iterdir())
    runs = ["2bit_seed1", "2bit_seed2", "32bit_seed1", "32bit_seed2", "FP32_seed1", "QAT_4bits_seed1"]
    assert names == runs
    for folder in (tmp_path / "outputs/2bit").iterdir():
        results = json.loads((folder / "training_results.json").read_text())
        rounds = results["results_per_round"]
        found = curves(tmp_path / f"curves/2bit_seed{results['seed']}")
        assert found["loss/test"] == [(r["round"], pytest.approx(r["test_loss"], rel=1e-6)) for r in rounds]


def test_rounds_of_a_federation_count_their_bytes(tmp_path: Path) -> None:
    results = run(tmp_path, "federate", "--clients", "2", "--rounds", "2")
    found = curves(tmp_path / "curves/federate")
    assert [step for step, _ in found["accuracy/test"]] == [1, 2]
    up = sum(value for _, value in found["bytes/up"])
    assert up == pytest.approx(results["federation"]["bytes_up"], rel=1e-6)
