"""What Python gives is what the command line gives, to the bit; and the command comes with the package."""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
        (["--bits", "8", "--passes", "bias-correction"], {"passes": "bias-correction"}),
        (["--bits", "8", "--layer-bits", "block1.conv1=4,block2.*=2"], {"layer_bits": {"block1.conv1": 4, "block2.*": 2}}),
        (["--bits", "8", "--exclude", "fc,block1.*"], {"exclude": ["fc", "block1.*"]}),
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


def test_the_same_new_head_is_trained_to_the_same_file(
    tmp_path: Path, data: lb.Dataset, trained: tuple[lb.Model, lb.Run]
) -> None:
    before, _ = trained
    before.save(tmp_path / "m.safetensors")
    done = lowbit(
        "train", "--from", "m.safetensors", "--new-head", "--epochs", "1", "--batch-size", "16", *DATA, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    theirs = (tmp_path / "outputs/train/model_fp32.safetensors").read_bytes()
    for how in ({"class_names": data.class_names}, {"classes": len(data.class_names)}):
        model = lb.new_head(before, **how)  # type: ignore[arg-type]
        lb.train(model, data, epochs=1, batch_size=16)
        model.save(tmp_path / "ours.safetensors")
        assert (tmp_path / "ours.safetensors").read_bytes() == theirs


def test_the_same_recipe_ends_in_the_same_file(tmp_path: Path, data: lb.Dataset, trained: tuple[lb.Model, lb.Run]) -> None:
    teacher, _ = trained
    teacher.save(tmp_path / "teacher.safetensors")
    settings: dict[str, Any] = {
        "epochs": 2, "batch_size": 16, "ema": 0.9, "teacher_weight": 0.25, "temperature": 2.0, "warmup_epochs": 1,
        "bn_reestimation": 2,
    }  # fmt: skip
    flags = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]
    files = ["--teacher", "teacher.safetensors", "--start-from", "teacher.safetensors"]
    done = lowbit("train", "--model", "resnet8", *flags, *files, *DATA, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = (tmp_path / "outputs/train/model_fp32.safetensors").read_bytes()
    # As models, as files, and with the weights that the model has already.
    for start, given, teaching in [
        (lb.zoo("resnet8", data.class_names, input=data.image_shape, seed=5), teacher, teacher),
        (lb.zoo("resnet8", data.class_names, input=data.image_shape), tmp_path / "teacher.safetensors", tmp_path / "teacher.safetensors"),
        (copy.copy(teacher), None, teacher),
    ]:
        run = lb.train(start, data, start_from=given, teacher=teaching, **settings)
        run.model.save(tmp_path / "ours.safetensors")
        assert (tmp_path / "ours.safetensors").read_bytes() == theirs
    with pytest.raises(lb.ModelError, match="teacher: .* is quantized"):
        lb.train(copy.copy(teacher), data, teacher=lb.quantize(teacher, data), epochs=1)
    with pytest.raises(lb.DataError, match="takes images of"):
        lb.train(copy.copy(teacher), data, teacher=lb.zoo("resnet8", data.class_names, input=(16, 16, 3)), epochs=1)


def test_a_recipe_is_settings_of_a_training() -> None:
    found = lb.recipe("cifar10-resnet8")
    assert found["ema"] == pytest.approx(0.999) and found["augment"] == "flip,shift:4" and found["epochs"] == 80
    # All of them are keywords of train.
    assert set(found) <= set(inspect.signature(lb.train).parameters)
    assert set(lb.recipe("eurosat-cnn")) <= set(inspect.signature(lb.train).parameters)
    with pytest.raises(lb.SettingError, match="none of that name; use"):
        lb.recipe("eurosat")


def test_an_exported_file_is_the_commands(tmp_path: Path, data: lb.Dataset, model: lb.Model) -> None:
    model.save(tmp_path / "m32.safetensors")
    for bits in (8, 4):
        lb.quantize(model, data, bits=bits).save(tmp_path / f"m{bits}.safetensors")
    for bits, flags, how in [
        (32, [], {}),
        (32, ["--input", "pixels"], {"input": "pixels"}),
        (8, [], {}),
        (8, ["--reduce-range"], {"reduce_range": True}),
        (4, ["--input", "pixels", "--reduce-range"], {"input": "pixels", "reduce_range": True}),
    ]:
        done = lowbit("export", f"m{bits}.safetensors", "--to", "theirs.onnx", *flags, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        theirs = json.loads(done.stdout)
        ours = lb.load(tmp_path / f"m{bits}.safetensors").export_onnx(tmp_path / "ours.onnx", **how)
        assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
        assert (ours.size_bytes, ours.opset) == (theirs["output_bytes"], theirs["opset"])
        assert len(ours.notes) == len(theirs["notes"])


def test_the_same_models_are_recommended(tmp_path: Path, data: lb.Dataset) -> None:
    # Above chance, or nothing can be recommended.
    model = lb.zoo("resnet8", data.class_names, input=data.image_shape)
    lb.train(model, data, epochs=6, batch_size=16, lr=0.005)
    model.save(tmp_path / "m.safetensors")
    found = lb.recommend(
        tmp_path / "m.safetensors", "landcover", limit=LIMIT, image_size=SIZE, cache=False, max_drop=60, seconds=2, batch=2,
        out=tmp_path / "ours",
    )  # fmt: skip
    done = lowbit("recommend", "m.safetensors", *DATA, "--max-drop", "60", "--time", "2s", "--batch", "2", "--out", "theirs", "--json", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    theirs = json.loads(done.stdout)
    assert found.about["images"] == theirs["images"] and found.about["batch"] == theirs["batch"] == 2
    # What was tried within the time may differ, what it came to may not.
    ours = {row["name"]: (row["bytes"], row["choosing"]) for row in found.about["rows"]}
    shared = [row for row in theirs["rows"] if row["name"] in ours]
    assert len(shared) >= 2
    assert all(ours[row["name"]] == (row["bytes"], row["choosing"]) for row in shared)
    assert found.sentence in str(found) and str(found).startswith("model") and found.ship in ours
    assert (tmp_path / "ours/recommend/report.html").is_file()
    # All that is trained on chooses and judges nothing.
    trains = lb.recommend(
        tmp_path / "m.safetensors", "landcover", limit=LIMIT, image_size=SIZE, cache=False, max_drop=60, seconds=2, train=2,
        out=tmp_path / "trains",
    )  # fmt: skip
    assert trains.about["training_images"] == len(data.train_images)
    assert sum(trains.about["images"][1:]) == len(data.test_images)
    if found.ship != "FP32":
        assert found.file is not None and lb.load(found.file).size_bytes == ours[found.ship][0]
        assert found.onnx is not None and Path(found.onnx).is_file()
    for how, part in [
        ({"max_drop": 0}, "max_drop=0"), ({"seconds": -1}, "seconds=-1"), ({"target": "speed"}, "use latency, throughput or size"),
        ({"batch": 0}, "batch=0"), ({"resize": "crop"}, "resize"), ({"train": -1}, "train=-1"),
        ({"train": 9, "all": True, "limit": LIMIT, "cache": False}, "all=True: training would go on"),
    ]:  # fmt: skip
        with pytest.raises((lb.SettingError, lb.DataError), match=part):
            lb.recommend(tmp_path / "m.safetensors", "landcover", **how)  # type: ignore[arg-type]


def test_the_preprocessing_of_an_onnx_file_is_found_as_the_command_finds_it(tmp_path: Path, data: lb.Dataset) -> None:
    onnx = pytest.importorskip("onnx")
    model = lb.zoo("resnet8", data.class_names, input=data.image_shape)
    lb.train(model, data, epochs=6, batch_size=16, lr=0.005)
    model.export_onnx(tmp_path / "said.onnx")
    model.export_onnx(tmp_path / "pixels.onnx", input="pixels")
    # What takes pixels needs no word, nor does what says it in its metadata; of others, nothing but labels can tell.
    images = data.test_images
    for name in ("said.onnx", "pixels.onnx"):
        assert np.allclose(lb.load(tmp_path / name)(images), model(images), atol=1e-4)
    silent = onnx.load(tmp_path / "said.onnx")
    del silent.metadata_props[:]
    onnx.save(silent, tmp_path / "m.onnx")
    with pytest.raises(lb.SettingError, match="m.onnx: neither its metadata") as error:
        lb.load(tmp_path / "m.onnx")
    assert "\n" not in str(error.value)
    how: dict[str, Any] = {"limit": LIMIT, "image_size": SIZE, "cache": False, "max_drop": 60, "seconds": 4}
    found = lb.recommend(tmp_path / "m.onnx", "landcover", out=tmp_path / "ours", **how)
    flags = ["--max-drop", "60", "--time", "4s", "--out", "theirs", "--json"]
    done = lowbit("recommend", "m.onnx", *DATA, *flags, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert found.preprocessing is not None and found.preprocessing.startswith("preprocessing found by")
    assert found.preprocessing in done.stderr and found.preprocessing in str(found)
    ours = {row["name"]: (row["bytes"], row["choosing"]) for row in found.about["rows"]}
    shared = [row for row in json.loads(done.stdout)["rows"] if row["name"] in ours]
    assert len(shared) >= 2 and all(ours[row["name"]] == (row["bytes"], row["choosing"]) for row in shared)
    # A word that cannot be right is refused, as there.
    with pytest.raises(lb.DataError, match="is the preprocessing right"):
        lb.recommend(tmp_path / "m.onnx", "landcover", preprocess="none", out=tmp_path / "wrong", **how)


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
