"""Models, arrays and data sets: what goes in, what comes out, what is refused and how."""

from __future__ import annotations

import copy
import inspect
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SIZE

import lowbit as lb


def test_logits_do_not_depend_on_where_an_array_lies(model: lb.Model, data: lb.Dataset) -> None:
    images = data.test_images
    expected = model(images)
    assert expected.dtype == np.float32 and expected.shape == (len(images), len(data.class_names))
    assert expected.flags["WRITEABLE"] and expected.flags["C_CONTIGUOUS"]
    spread = np.zeros((2 * len(images), *images.shape[1:]), np.uint8)
    spread[::2] = images
    for other in [np.asfortranarray(images), spread[::2], images.tolist() and np.array(images)]:
        assert np.array_equal(model(other), expected)
    assert np.array_equal(model(images[:3]), expected[:3])
    assert model(images[:0]).shape == (0, len(data.class_names))
    assert np.array_equal(model.predict(images), expected.argmax(axis=1))


def test_a_new_head_is_all_that_changes(model: lb.Model, data: lb.Dataset) -> None:
    before = model.state_dict()
    other = lb.new_head(model, class_names=["land", "water", "town"])
    assert other.class_names == ["land", "water", "town"] and other.about["trained_on"] == model.about["trained_on"]
    assert other(data.test_images).shape == (len(data.test_images), 3)
    after = other.state_dict()
    assert after["fc.weight"].shape == (3, before["fc.weight"].shape[1]) and after["fc.bias"].shape == (3,)
    for name, values in before.items():
        if not name.startswith("fc."):
            assert np.array_equal(values, after[name]), name
    # Where there are as many classes, the layer is a fresh one, too; the model itself stays as it is.
    same = lb.new_head(model, len(data.class_names)).state_dict()
    assert not np.array_equal(same["fc.weight"], before["fc.weight"])
    assert not np.array_equal(same["fc.weight"], lb.new_head(model, len(data.class_names), seed=2).state_dict()["fc.weight"])
    assert np.array_equal(model.state_dict()["fc.weight"], before["fc.weight"])
    for how, part in (
        ({}, "say how many classes=, or their class_names="), ({"class_names": []}, "say how many"),
        ({"classes": 0}, "classes=0: must lie in 1"), ({"classes": -1}, "classes=-1"),
    ):  # fmt: skip
        with pytest.raises(lb.SettingError, match=part):
            lb.new_head(model, **how)  # type: ignore[arg-type]
    with pytest.raises(lb.SettingError, match="classes=2, and 1 class_names"):
        lb.new_head(model, 2, class_names=["land"])
    with pytest.raises(lb.ModelError, match="is quantized already"):
        lb.new_head(lb.quantize(model, data), 3)


def test_what_has_a_buffer_is_not_copied(model: lb.Model, data: lb.Dataset) -> None:
    from lowbit import _arrays

    class Foreign:
        """An array of another package."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array
            self.__array_interface__ = array.__array_interface__

    class Capsule:
        """The same by DLPack."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **how: object) -> object:
            return self.array.__dlpack__(**how)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    images = data.test_images
    for given in [images, Foreign(images), Capsule(images)]:
        assert np.shares_memory(_arrays.images(given), images)
        assert np.array_equal(model(given), model(images))


def test_images_of_another_kind_are_refused_in_one_line(model: lb.Model, data: lb.Dataset) -> None:
    images = data.test_images
    wrong = [
        (images.astype(np.float32) / 255, "dtype float32, expected uint8"),
        (images.astype(np.int64), "dtype int64"),
        (images[:, :16], "expected [n, 32, 32, 3]"),
        (np.moveaxis(images, -1, 1), "channels come last"),
        (images[0], "expected [n, 32, 32, 3]"),
        (images.reshape(len(images), -1), "expected [n, height, width, channels]"),
        ("images", "dtype"),
        (object(), "dtype object"),
    ]
    for given, part in wrong:
        with pytest.raises(lb.DataError) as error:
            model(given)
        assert part in str(error.value) and "\n" not in str(error.value)
        assert isinstance(error.value, ValueError) and isinstance(error.value, lb.Error)


def test_a_state_goes_out_and_in_and_nothing_else_does(model: lb.Model, data: lb.Dataset) -> None:
    images, before = data.test_images, model(data.test_images)
    state = model.state_dict()
    assert all(tensor.dtype == np.float32 for tensor in state.values())
    other = lb.zoo("resnet8", len(data.class_names), input=data.image_shape, seed=9)
    assert not np.array_equal(other(images), before)
    other.load_state_dict(state)
    assert np.array_equal(other(images), before)
    # What came out is a copy.
    state["fc.weight"][:] = 0
    assert np.array_equal(model(images), before)
    name, tensor = next(iter(state.items()))
    refused: list[tuple[dict[str, np.ndarray], type[lb.Error], str]] = [
        ({**state, "none": tensor}, lb.ModelError, "no tensor none"),
        ({key: value for key, value in state.items() if key != name}, lb.ModelError, "missing"),
        ({**state, name: tensor[:1]}, lb.ModelError, "shape"),
        ({**state, name: np.full_like(tensor, np.nan)}, lb.ModelError, "NaN"),
        ({**state, name: tensor.astype(np.float64)}, lb.DataError, "float64"),
    ]
    for tensors, kind, part in refused:
        with pytest.raises(kind, match=part):
            model.load_state_dict(tensors)
        assert np.array_equal(model(images), before)
    q = lb.quantize(model, data)
    with pytest.raises(lb.ModelError, match="quantized already"):
        q.state_dict()


def test_files_pickles_and_copies_are_the_same_model(model: lb.Model, data: lb.Dataset, tmp_path: Path) -> None:
    for one in [model, lb.quantize(model, data, bits=4)]:
        size = one.save(tmp_path / "m.safetensors")
        assert size == one.size_bytes == (tmp_path / "m.safetensors").stat().st_size
        expected = one(data.test_images)
        for other in [lb.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(one)), copy.deepcopy(one)]:
            assert np.array_equal(other(data.test_images), expected)
            assert other.bits == one.bits and other.class_names == data.class_names
            assert lb.evaluate(other, data).seen == 0
    # A copy is a model of its own.
    expected, other = model(data.test_images), copy.copy(model)
    other.load_state_dict({name: 0 * tensor for name, tensor in model.state_dict().items()})
    assert not other(data.test_images).any() and np.array_equal(model(data.test_images), expected)
    restored = pickle.loads(pickle.dumps(data))
    assert restored.fingerprint == data.fingerprint and repr(restored) == repr(data)
    assert np.array_equal(restored.test_images, data.test_images)


def test_passes_of_weights_alone_look_at_training_images(model: lb.Model, data: lb.Dataset) -> None:
    plain, corrected = (lb.quantize(model, data, bits=4, act_bits="float", passes=passes) for passes in ("none", "bias-correction"))
    off = [np.abs(q(data.train_images).mean(axis=0) - model(data.train_images).mean(axis=0)).max() for q in (plain, corrected)]
    assert off[1] < off[0] / 2


def test_a_pickle_with_bytes_is_read(model: lb.Model, data: lb.Dataset) -> None:
    make, (name, array, *rest) = model.__reduce__()
    assert np.array_equal(make(name, array.tobytes(), *rest)(data.test_images), model(data.test_images))


def test_reprs_say_what_a_thing_is(model: lb.Model, data: lb.Dataset) -> None:
    assert "resnet8: float32, 32×32×3 to" in repr(model) and "parameters" in repr(model)
    assert "4-bit weights" in repr(lb.quantize(model, data, bits=4))
    assert "landcover" in repr(data) and "test images of 32×32×3" in repr(data)
    assert "% of" in repr(lb.evaluate(model, data))


def test_arrays_are_split_as_a_folder_is(data: lb.Dataset) -> None:
    images, labels = data.train_images, data.train_labels
    ours = lb.Dataset(images, labels, class_names=data.class_names, seed=3, name="mine")
    assert ours.split == "seeded stratified 80/20 (seed 3)" and len(ours) == len(images)
    kept = {image.tobytes(): label for image, label in zip(images, labels)}
    for part, classes in [(ours.train_images, ours.train_labels), (ours.test_images, ours.test_labels)]:
        assert [kept[image.tobytes()] for image in part] == classes.tolist()
    whole = lb.Dataset(
        images, labels, class_names=data.class_names, test_images=data.test_images, test_labels=data.test_labels
    )
    assert whole.fingerprint == data.fingerprint
    gray = lb.Dataset(images[..., 0], labels.astype(np.int64), name="gray")
    assert gray.image_shape == (32, 32, 1) and gray.class_names[0] == "0"


def test_a_data_set_outlives_its_files(data: lb.Dataset, tmp_path: Path) -> None:
    for at, (pixels, label) in enumerate(zip(data.train_images, data.train_labels)):
        folder = tmp_path / "photos" / data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        # A bitmap, uncompressed, from the top down, blue first.
        header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + pixels.size, 0, 0, 54, 40, SIZE, -SIZE, 1, 24, 0, pixels.size, 0, 0, 0, 0)
        (folder / f"{at}.bmp").write_bytes(header + pixels[..., ::-1].tobytes())
    loaded = lb.load_dataset(tmp_path / "photos", cache=False)
    before = loaded.train_images
    known = {image.tobytes() for image in data.train_images}
    assert len(loaded) == len(data.train_images) and all(image.tobytes() in known for image in before)
    shutil.rmtree(tmp_path / "photos")
    # There is nothing to close: it is in memory.
    assert np.array_equal(loaded.train_images, before)
    images = data.train_images
    own = lb.Dataset(images, data.train_labels)
    expected = own.train_images
    images[:] = 0
    assert np.array_equal(own.train_images, expected)


def test_a_data_set_that_is_none_is_refused(data: lb.Dataset, tmp_path: Path) -> None:
    images, labels = data.train_images, data.train_labels
    wrong = [
        (lambda: lb.Dataset(images, labels[:-1]), "labels for"),
        (lambda: lb.Dataset(images, labels.astype(float)), "whole numbers"),
        (lambda: lb.Dataset(images, labels.astype(int) - 1), "expected classes from 0"),
        (lambda: lb.Dataset(images, labels, class_names=["one", "two"]), "label"),
        (lambda: lb.Dataset(images, 0 * labels), "at least two"),
        (lambda: lb.Dataset(images[..., :2], labels), "1 channel"),
        (lambda: lb.Dataset(images, labels, test_images=images), "both"),
        (lambda: lb.Dataset(images, labels, test_images=images[:, :8], test_labels=labels), "test images are"),
        (lambda: lb.Dataset(images, labels, test_fraction=1.5), "between 0 and 1"),
        (lambda: lb.Dataset(images[:0], labels[:0]), "at least two"),
        (lambda: lb.load_dataset(tmp_path / "none"), "none"),
        (lambda: lb.load_dataset(tmp_path), "expected a folder"),
        (lambda: lb.load_dataset("landcover", image_size=100_000), "1 to 4096"),
    ]
    for make, part in wrong:
        with pytest.raises(lb.DataError) as error:
            make()
        assert part in str(error.value) and "\n" not in str(error.value), error.value


def test_files_that_are_no_models_are_refused(tmp_path: Path, model: lb.Model) -> None:
    with pytest.raises(lb.FileError) as missing:
        lb.load(tmp_path / "none.safetensors")
    assert isinstance(missing.value, OSError)
    file = tmp_path / "m.safetensors"
    model.save(file)
    whole = file.read_bytes()
    for damaged in [whole[: len(whole) // 2], b"", b"\xff" * 200]:
        file.write_bytes(damaged)
        with pytest.raises(lb.ModelError, match="m.safetensors"):
            lb.load(file)
    # A safetensors header is 8 bytes of length and JSON: a format of the future, in as many bytes.
    newer = whole.replace(b'format_version\\":1', b'format_version\\":9', 1)
    assert newer != whole
    file.write_bytes(newer)
    with pytest.raises(lb.ModelError, match="format version 9"):
        lb.load(file)
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"\x08\x07" + b"\xff" * 50)
    with pytest.raises(lb.ModelError, match="m.onnx"):
        lb.load(onnx, preprocess="unit")
    with pytest.raises(lb.ModelError, match="m.onnx"):
        lb.load(onnx)
    with pytest.raises(lb.FileError):
        model.save(tmp_path / "no" / "such" / "folder.safetensors")


def test_lines_name_keywords_where_the_command_line_has_flags(tmp_path: Path) -> None:
    from lowbit._errors import _KEYWORDS, in_python

    functions = [lb.load_dataset, lb.load, lb.train, lb.quantize, lb.recommend]
    known = {name for function in functions for name in inspect.signature(function).parameters}
    assert {name.replace("-", "_") for name in _KEYWORDS} <= known

    for line, expected in [
        ("use --limit or a smaller --image-size", "use limit= or a smaller image_size="),
        ("--split 60/20/20 cuts them, --image-size N brings them to N×N", "split=60/20/20 cuts them, image_size=N brings them to N×N"),
        ("give more --time; --all: it has seen them", "give more seconds=; all=True: it has seen them"),
        ("quantize with --method static (lowbit quantize --method dynamic made it)", "quantize with method=static (lowbit quantize --method dynamic made it)"),
        ("not --set cache=false, nor a--b", "not --set cache=false, nor a--b"),
    ]:  # fmt: skip
        assert in_python(line) == expected
    for number, side in enumerate([8, 8, 9, 8]):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        size = (3 * side + 3) // 4 * 4 * side
        header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + size, 0, 54, 40, side, side, 1, 24, 0, size, 0, 0, 0, 0)
        (folder / f"{number}.bmp").write_bytes(header + bytes(size))
    with pytest.raises(lb.DataError) as error:
        lb.load_dataset(tmp_path / "photos", cache=False)
    assert "image_size=N" in str(error.value) and "--" not in str(error.value), error.value


def test_settings_are_those_of_the_command_line(model: lb.Model, data: lb.Dataset) -> None:
    wrong = [
        (lambda: lb.quantize(model, data, bits=3), "bits=3"),
        (lambda: lb.quantize(model, data, observer="median"), "observer=median"),
        (lambda: lb.quantize(model, data, method="exact"), "method=exact"),
        (lambda: lb.train(model, data, epochs=0), "epochs=0: epochs must be at least 1"),
        (lambda: lb.train(model, data, lr=float("nan")), "lr"),
        (lambda: lb.train(model, data, augment="rotate"), "augment=rotate"),
        (lambda: lb.set_num_threads(100_000), "must lie in 0..1024"),
    ]
    for call, part in wrong:
        with pytest.raises(lb.SettingError) as error:
            call()
        assert part in str(error.value) and "--set" not in str(error.value), error.value
    with pytest.raises(lb.ModelError, match="choose one of"):
        lb.zoo("alexnet")
    with pytest.raises(lb.ModelError, match="conv3"):
        lb.zoo("eurosat-cnn", input=(16, 16, 3))
    with pytest.raises(lb.Error):
        lb.zoo("mlp", 0)
    with pytest.raises(lb.ModelError, match="lowbit.load"):
        lb.Model()


def test_a_model_is_not_measured_on_what_it_has_seen(model: lb.Model, data: lb.Dataset) -> None:
    turned = lb.Dataset(
        data.test_images, data.test_labels, class_names=data.class_names,
        test_images=data.train_images, test_labels=data.train_labels, name="turned",
    )  # fmt: skip
    with pytest.raises(lb.SeenError, match="training images of this model"):
        lb.evaluate(model, turned)
    assert lb.evaluate(model, turned, all=True).seen == len(data.train_images)
    other = lb.Dataset(data.train_images, data.train_labels, class_names=["x"] * 0 or None)
    with pytest.raises(lb.DataError):
        lb.evaluate(model, other)


def test_calibration_images_may_be_an_array(model: lb.Model, data: lb.Dataset) -> None:
    q = lb.quantize(model, data.train_images[:8], bits=8)
    assert lb.evaluate(q, data).accuracy > 0
    dynamic = lb.quantize(model, method="dynamic")
    assert dynamic.about["method"] == "dynamic"
    with pytest.raises(lb.DataError):
        lb.quantize(model, data.train_images[:8].astype(np.float32))
    # As many bytes in another shape are other images.
    first = data.train_images[:8]
    for images, part in [
        (np.moveaxis(first, -1, 1), r"expected \[n, 32, 32, 3\]: the channels come last"),
        (first.reshape(32, 16, 16, 3), r"expected \[n, 32, 32, 3\]"),
        (first.reshape(8, 32, 96), r"expected \[n, 32, 32, 3\]"),
    ]:
        with pytest.raises(lb.DataError, match=part) as error:
            lb.quantize(model, images)
        assert "\n" not in str(error.value)
    with pytest.raises(lb.Error):
        lb.quantize(model, data.train_images[:0])
    with pytest.raises(lb.ModelError, match="quantized already"):
        lb.quantize(q, data)


def test_a_comparison_is_a_table_a_frame_and_a_page(model: lb.Model, data: lb.Dataset) -> None:
    q = lb.quantize(model, data)
    found = lb.compare(model, q, data)
    a, b = found.models
    assert (a["bits"], b["bits"]) == (32, 8)
    assert found.compression_ratio == model.size_bytes / q.size_bytes
    one, other = lb.evaluate(model, data), lb.evaluate(q, data)
    assert a["accuracy_percent"] == 100 * one.accuracy and b["logits_digest"] == other.logits_digest
    assert found.predictions_changed == int((one.predictions != other.predictions).sum())
    drop = found.accuracy_drop_points
    # Agresti & Min 2005: half an observation more in each cell of the matched pairs.
    n, x = len(one.correct), int((one.correct & ~other.correct).sum()) + 0.5
    y = int((~one.correct & other.correct).sum()) + 0.5
    center, half = (x - y) / (n + 2), 1.959964 * np.sqrt((x + y) - (x - y) ** 2 / (n + 2)) / (n + 2)
    assert drop["value"] == pytest.approx(100 * (one.accuracy - other.accuracy), abs=1e-9)
    assert drop["low"] == pytest.approx(100 * (center - half), abs=1e-4)
    assert drop["high"] == pytest.approx(100 * (center + half), abs=1e-4)
    html = found._repr_html_()
    assert (a["label"], b["label"]) == ("FP32", "8 bits")
    assert all(cell["first_ms"]["median"] > 0 and cell["second_ms"]["median"] > 0 for cell in found.speed)
    twice = lb.compare(q, q, data)
    assert twice._names() == ("first, 8 bits", "second, 8 bits") and "FP32" not in str(twice)
    weights = lb.quantize(model, data, act_bits="float")
    assert lb.compare(model, weights, data, speed=False).models[1]["label"] == "8 bits, weights alone"
    assert "<table>" in html and html.count("<svg") == 2 and "FP32" in html and "<script" not in html
    assert "FP32" in str(found) and "smaller" in str(found) and "points [" in repr(found)
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()
    quick = lb.compare(model, q, data, speed=False)
    assert quick.speed == [] and "<svg" not in quick._repr_html_() and len(quick.rows()) == 3


def test_results_become_frames_where_pandas_is_there(model: lb.Model, data: lb.Dataset) -> None:
    pandas = pytest.importorskip("pandas")
    run = lb.train(lb.zoo("resnet8", data.class_names, input=data.image_shape), data, epochs=2, batch_size=32)
    epochs = run.to_frame()
    assert isinstance(epochs, pandas.DataFrame) and list(epochs["epoch"]) == [1, 2]
    assert epochs["train_loss"].iloc[1] == run.epochs[1].train_loss
    evaluation = lb.evaluate(model, data)
    confusion = evaluation.to_frame()
    assert list(confusion.index) == list(confusion.columns) == data.class_names
    assert confusion.to_numpy().sum() == len(data.test_labels)
    compared = lb.compare(model, lb.quantize(model, data), data)
    frame = compared.to_frame()
    assert [tuple(row) for row in frame.itertuples()] == compared.rows()


def test_what_cannot_be_exported_is_said(model: lb.Model, data: lb.Dataset, tmp_path: Path) -> None:
    dynamic = lb.quantize(model, data, method="dynamic")
    refused: list[tuple[lb.Model, str, dict[str, Any], type[lb.Error], str]] = [
        (dynamic, "d.onnx", {}, lb.ModelError, "found at run time"),
        (model, "m.safetensors", {}, lb.SettingError, "ends with .onnx"),
        (model, "m.onnx", {"input": "images"}, lb.SettingError, "use normalized or pixels"),
        (model, "no/folder/m.onnx", {}, lb.FileError, "no/folder"),
    ]
    for one, name, how, kind, part in refused:
        with pytest.raises(kind, match=part) as error:
            one.export_onnx(tmp_path / name, **how)
        assert "\n" not in str(error.value)
        assert not (tmp_path / name).exists()
    exported = model.export_onnx(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_size == exported.size_bytes and exported.opset == 13
    assert repr(exported).startswith("<lowbit.Exported: ")
    # What it was read from is not written over; and it is read as the same model.
    again = lb.load(tmp_path / "m.onnx", preprocess="unit")
    with pytest.raises(lb.FileError, match="m.onnx"):
        again.export_onnx(tmp_path / "m.onnx")


def test_settings_that_cannot_be_are_named(model: lb.Model, data: lb.Dataset) -> None:
    for how, part in [({"passes": "magic"}, "passes"), ({"observer": "best"}, "observer"), ({"bits": 3}, "bits=3")]:
        with pytest.raises(lb.SettingError, match=part):
            lb.quantize(model, data, **how)  # type: ignore[arg-type]
    for how, part in [({"ema": 1.5}, "ema"), ({"teacher_weight": 2.0}, "teacher_weight"), ({"temperature": 0.0}, "temperature")]:
        with pytest.raises(lb.SettingError, match=part):
            lb.train(model, data, **how)  # type: ignore[arg-type]
    for layers, kind, part in [
        ({"layer_bits": {"fc": 3}}, lb.SettingError, "fc=3"),
        ({"layer_bits": {"fc,conv": 4}}, lb.SettingError, "comma"),
        ({"layer_bits": {"head": 4}}, lb.Error, "head"),
        ({"exclude": ["@names.txt"]}, lb.SettingError, "@ before it"),
        ({"exclude": "nothing.*"}, lb.Error, "nothing"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=part) as error:
            lb.quantize(model, data, **layers)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    whole = lb.quantize(model, data)
    assert np.array_equal(lb.quantize(model, data, layer_bits={}, exclude=[])(data.test_images), whole(data.test_images))
    with pytest.raises(lb.SettingError, match="resize"):
        lb.load_dataset("landcover", resize="short")
    for wrong, part in [
        (lambda: lb.zoo("mlp", 10**9), "classes=1000000000: must lie in 1"),
        (lambda: lb.zoo("mlp", -3), "classes=-3"),
        (lambda: lb.zoo("mlp", 2.5), "classes=2.5"),  # type: ignore[arg-type]
        (lambda: lb.zoo("mlp", "abc"), "list of names"),
        (lambda: lb.zoo("mlp", 3, seed=-1), "seed=-1"),
        (lambda: lb.train(model, data, bits=300), "bits=300"),
        (lambda: lb.set_num_threads(-1), "threads=-1"),
    ]:
        with pytest.raises(lb.SettingError, match=part):
            wrong()  # type: ignore[no-untyped-call]
    assert len(lb.zoo("mlp", np.int64(3), input=(8, 8, 3)).class_names) == 3  # type: ignore[arg-type]


def test_whatever_is_refused_is_an_error_of_lowbits(model: lb.Model, data: lb.Dataset, tmp_path: Path) -> None:
    images, labels = data.train_images, data.train_labels
    wrong: list[tuple[Any, type[lb.Error], str]] = [
        (lambda: lb.Dataset(images, labels, seed=-1), lb.SettingError, "seed=-1: must lie in 0"),
        (lambda: lb.Dataset(images, labels, seed=2**64), lb.SettingError, "seed=18446744073709551616"),
        (lambda: lb.Dataset(images, labels, name="\udcff"), lb.SettingError, "name='.udcff': is not UTF-8"),
        (lambda: lb.Dataset(images, labels, class_names=5), lb.DataError, "class_names=5"),
        (lambda: lb.Dataset(images, labels, test_fraction="x"), lb.SettingError, "test_fraction='x': must be a number"),
        (lambda: lb.zoo("mlp", input=(-1, 16, 3)), lb.SettingError, "input=-1"),
        (lambda: lb.zoo("mlp", input=(16, 16)), lb.SettingError, r"input=\(16, 16\): give"),
        (lambda: lb.zoo("mlp", input=16), lb.SettingError, "input=16: give"),
        (lambda: lb.set_num_threads(2**70), lb.SettingError, "must lie in 0..1024"),
        (lambda: lb.set_num_threads(1.5), lb.SettingError, "threads=1.5: must be a whole number"),
        (lambda: lb.load_dataset("/\udcff"), lb.SettingError, "is not UTF-8"),
        (lambda: lb.load_dataset(None), lb.SettingError, "path=None"),
        (lambda: lb.recommend("m", "landcover", split_seed=-1), lb.SettingError, "split_seed=-1"),
        (lambda: lb.evaluate(model, images), lb.DataError, "ndarray is no lowbit.Dataset"),
        (lambda: lb.compare(model, "m.safetensors", data), lb.ModelError, "str is no lowbit.Model"),
        (lambda: lb.train(model, images), lb.DataError, "ndarray is no lowbit.Dataset"),
        (lambda: lb.quantize("m.safetensors", data), lb.ModelError, "str is no lowbit.Model"),
        (lambda: lb.quantize(model, data, layer_bits=["fc=4"]), lb.SettingError, "layer_bits"),
        (lambda: lb.quantize(model, data, exclude=3), lb.SettingError, "exclude=3"),
        (lambda: model.load_state_dict([1]), lb.ModelError, "by name"),
        (lambda: model.save(3), lb.SettingError, "path=3"),
    ]  # fmt: skip
    for call, kind, part in wrong:
        with pytest.raises(kind, match=part) as error:
            call()
        assert "\n" not in str(error.value)
    # Names of files may be bytes, and truth numpy's.
    file = bytes(tmp_path / "m.safetensors")
    model.save(file)
    assert np.array_equal(lb.load(file)(data.test_images), model(data.test_images))
    runs = [lb.train(lb.zoo("mlp", data.class_names, input=data.image_shape), data, epochs=1, bits=2, ste=ste) for ste in (False, np.False_)]
    assert runs[0].epochs[0].logits_digest == runs[1].epochs[0].logits_digest


def test_a_file_whose_name_is_not_utf_8_is_a_file(model: lb.Model, data: lb.Dataset, tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/\xff.safetensors"
    model.save(path)
    one = lb.load(path)
    assert repr(one) == repr(model) and one.about["file"].endswith("/\ufffd.safetensors")
    assert lb.compare(one, pickle.loads(pickle.dumps(one)), data, speed=False).predictions_changed == 0
