"""Compares an exported 8-bit model with the file that it was made from, on every test image of a data set.

    lowbit export model_int8.safetensors --to model_int8.onnx
    python bench/onnx/agreement.py model_int8.safetensors model_int8.onnx DATA

Says for ONNX Runtime (exact, and as it comes: without VNNI its sums saturate at 16 bits) and OpenVINO how many logits are lowbit's to
the bit, how many images get the same class, and the accuracy. Needs the package lowbit, onnxruntime and openvino; the model normalizes
with mean and std of one half. A file of `lowbit export --reduce-range` is another model: compare its engines with each other.
"""

import argparse

import numpy as np
import onnxruntime
import openvino

import lowbit

BATCH = 300


def batches(run, images):
    return np.concatenate([run(images[at : at + BATCH]) for at in range(0, len(images), BATCH)])


def onnx_runtime(file, exact):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1" if exact else "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def open_vino(file):
    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: model(images)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("exported")
    parser.add_argument("data")
    arguments = parser.parse_args()
    data = lowbit.load_dataset(arguments.data)
    pixels, labels = np.asarray(data.test_images), np.asarray(data.test_labels)
    half = np.float32(0.5)
    normalized = np.ascontiguousarray((pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255 - half) / half)
    rows = {"lowbit": batches(lowbit.load(arguments.model), pixels)}
    for name, run in (
        ("ONNX Runtime, exact", onnx_runtime(arguments.exported, True)),
        ("ONNX Runtime", onnx_runtime(arguments.exported, False)),
        ("OpenVINO", open_vino(arguments.exported)),
    ):
        rows[name] = batches(run, normalized)
    references = ("lowbit", "ONNX Runtime, exact")
    print(f"{len(labels)} images; against " + " and ".join(references))
    for name, logits in rows.items():
        told = [f"{name}: {100 * (logits.argmax(1) == labels).mean():.2f} %"]
        for reference in references:
            equal, same = (logits == rows[reference]).sum(), (logits.argmax(1) == rows[reference].argmax(1)).sum()
            told.append(f"{equal} of {logits.size} logits, {same} classes")
        print("; ".join(told))


if __name__ == "__main__":
    main()
