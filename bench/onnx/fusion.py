"""Which nodes of quantized ONNX files ONNX Runtime, OpenVINO, tract and rten run in integers: the answers that `lowbit doctor` is
checked against.

    cargo build --release --manifest-path bench/onnx/runtimes/Cargo.toml
    python bench/onnx/fusion.py DIR [--more FILE.onnx ...] [--golden crates/lowbit-lab/tests/golden/fusion.json] \\
        [--runtimes bench/onnx/runtimes/target/release/runtimes]

Makes small quantized networks (onnxruntime.quantization, PyTorch's fake quantization, and by hand) in DIR, loads each into ONNX
Runtime, and looks for every node of the file in the graph that the session really runs (`optimized_model_filepath`). --golden writes
files and answers for crates/lowbit-lab/tests/doctor_onnx.rs. Needs onnx, onnxruntime and numpy. Two of the files are made by torch,
openvino gives answers of its own, and so does the program of tract and rten: without them, those stay that the golden file has.
"""

import argparse
import base64
import json
import pathlib
import re
import subprocess
import sys
import zlib

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import (
        CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static,
    )
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(0)

# What a node may be called once it computes with integers; all else is f32, or was moved away.
INTEGER = {
    "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul",
    "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QLinearSoftmax", "QLinearReduceMean",
}
# Nodes that are looked for: what moves data only runs on whatever it is given.
LOOKED_FOR = {
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax", "HardSwish",
    "HardSigmoid", "Tanh", "BatchNormalization", "ReduceMean",
}
# Products of values with weights, of which alone tract and rten are asked.
PRODUCTS = {"Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}
# Those that are in f32 only where they are nodes of their own: else they went into the product before, or away.
CLIPS = {"Relu", "Clip"}
rng = np.random.default_rng(7)


class Net:
    """A float network, node by node."""

    def __init__(self, size=8, opset=13):
        self.nodes, self.tensors, self.size, self.opset = [], [], size, opset

    def tensor(self, name, data):
        self.tensors.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name + ".out"], name=name, **attributes))
        return name + ".out"

    def weights(self, name, *shape):
        fan_in = int(np.prod(shape[1:]))
        return self.tensor(name, (rng.standard_normal(shape) / fan_in**0.5).astype(np.float32))

    def conv(self, x, name, channels, to, kernel=3, group=1, bias=True):
        inputs = [x, self.weights(name + ".w", to, channels // group, kernel, kernel)]
        if bias:
            inputs.append(self.tensor(name + ".b", rng.standard_normal(to).astype(np.float32) * 0.1))
        return self.node("Conv", inputs, name, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2, group=group)

    def gemm(self, x, name, channels, to, transposed=True):
        w = self.weights(name + ".w", *((to, channels) if transposed else (channels, to)))
        return self.node("Gemm", [x, w, self.tensor(name + ".b", np.zeros(to, np.float32))], name, transB=int(transposed))

    def finish(self, channels=3):
        """Makes the last node's result the logits."""
        self.nodes[-1].output[0] = "logits"
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, self.size, self.size])
        y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])
        graph = helper.make_graph(self.nodes, "net", [x], [y], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10 if self.opset > 17 else 8)
        return onnx.shape_inference.infer_shapes(model)


def residual(opset=13):
    n = Net(opset=opset)
    a = n.node("Relu", [n.conv("x", "conv1", 3, 8)], "relu1")
    a = n.node("MaxPool", [a], "pool", kernel_shape=[2, 2], strides=[2, 2])
    b = n.node("Relu", [n.conv(a, "depthwise", 8, 8, group=8)], "relu2")
    b = n.node("Add", [n.conv(b, "conv3", 8, 8, 1), a], "add")
    b = n.node("GlobalAveragePool", [n.node("Relu", [b], "relu3")], "mean")
    n.gemm(n.node("Flatten", [b], "flatten"), "fc", 8, 5)
    return n.finish()


def mobile(opset=14):
    n = Net(opset=opset)
    low, high = n.tensor("low", np.float32(0)), n.tensor("high", np.float32(6))
    a = n.node("Clip", [n.conv("x", "conv1", 3, 8), low, high], "clip1")
    s = n.conv(a, "conv2", 8, 8, group=8)
    a = n.node("Mul", [s, n.node("Sigmoid", [s], "sigmoid")], "silu")
    g = n.conv(n.node("GlobalAveragePool", [a], "squeeze"), "gate", 8, 8, 1)
    a = n.node("Mul", [a, n.node("HardSigmoid", [g], "hard_sigmoid", alpha=1 / 6)], "scaled")
    a = n.node("HardSwish", [n.conv(a, "conv3", 8, 8, 1)], "hard_swish")
    a = n.node("Flatten", [n.node("GlobalAveragePool", [a], "mean")], "flatten")
    n.gemm(a, "fc", 8, 5)
    return n.finish()


def branches(opset=13):
    n = Net(opset=opset)
    a = n.node("LeakyRelu", [n.conv("x", "conv1", 3, 8)], "leaky", alpha=0.1)
    b = n.node("Concat", [n.conv(a, "conv2", 8, 4, 1), n.conv(a, "conv3", 8, 4)], "concat", axis=1)
    b = n.node("AveragePool", [b], "average", kernel_shape=[2, 2], strides=[2, 2])
    b = n.node("Tanh", [b], "tanh")
    b = n.node("Reshape", [b, n.tensor("shape", np.array([0, -1]))], "reshape")
    b = n.node("MatMul", [b, n.weights("fc.w", 128, 5)], "fc")
    b = n.node("Add", [b, n.tensor("fc.b", rng.standard_normal(5).astype(np.float32))], "fc_bias")
    n.node("Softmax", [b], "softmax")
    return n.finish()


def plain(opset=13, transposed=True):
    n = Net(opset=opset)
    a = n.node("Relu", [n.conv("x", "conv1", 3, 8)], "relu1")
    a = n.node("Relu", [n.conv(a, "conv2", 8, 8)], "relu2")
    a = n.node("Flatten", [n.node("GlobalAveragePool", [a], "mean")], "flatten")
    n.gemm(a, "fc", 8, 5, transposed)
    return n.finish()


class Noise(CalibrationDataReader):
    def __init__(self, size=8):
        self.left = [{"x": rng.standard_normal((4, 3, size, size)).astype(np.float32)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


U8, S8, U16, S4 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16, QuantType.QInt4


def static(folder, name, net, activation=U8, weight=S8, per_channel=True, form=QuantFormat.QDQ, **more):
    source, target = folder / "float.onnx", folder / f"{name}.onnx"
    onnx.save(net, source)
    quantize_static(
        str(source), str(target), Noise(), quant_format=form, per_channel=per_channel, activation_type=activation, weight_type=weight, **more
    )
    source.unlink()
    # Names of machines and folders stay here.
    model = onnx.load(target)
    for entry in list(model.metadata_props):
        model.metadata_props.remove(entry)
    model.graph.ClearField("value_info")
    onnx.save(model, target)
    return model


def save(folder, name, model):
    onnx.checker.check_model(model)
    onnx.save(model, folder / f"{name}.onnx")


def edited(folder, source, name, edit):
    model = onnx.load(folder / f"{source}.onnx")
    edit(model.graph)
    save(folder, name, model)


def find(graph, name):
    return next(node for node in graph.node if node.name == name)


def maker(graph, value):
    return next((node for node in graph.node if value in node.output), None)


def drop_pair_behind(graph, name):
    """Takes the QuantizeLinear and DequantizeLinear behind a node away."""
    out = find(graph, name).output[0]
    q = next(node for node in graph.node if out in node.input and node.op_type == "QuantizeLinear")
    dq = next(node for node in graph.node if q.output[0] in node.input)
    for node in graph.node:
        for index, value in enumerate(node.input):
            if value == dq.output[0]:
                node.input[index] = out
    graph.node.remove(q)
    graph.node.remove(dq)


def float_bias(graph, name):
    node = find(graph, name)
    dq = maker(graph, node.input[2])
    value = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    real = value[dq.input[0]] * value[dq.input[1]]
    graph.initializer.append(numpy_helper.from_array(real.astype(np.float32), name + ".float_bias"))
    node.input[2] = name + ".float_bias"
    graph.node.remove(dq)


def without_zero_points(graph):
    """Weights whose DequantizeLinear says no zero point."""
    constants = {t.name for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants and len(node.input) == 3:
            del node.input[2]


def also_an_output(graph, name):
    out = find(graph, name).output[0]
    graph.output.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", None, None, None]))


def read_twice(graph, name):
    """A second reader of a product's real result."""
    node = find(graph, name)
    graph.node.append(helper.make_node("ReduceMax", [node.output[0]], ["largest"], name="largest"))
    graph.output.append(helper.make_tensor_value_info("largest", TensorProto.FLOAT, [1, 1, 1, 1]))


def other_scale_behind(graph, name):
    """The pair behind a node that only moves data gets another scale."""
    out = find(graph, name).output[0]
    q = next(node for node in graph.node if out in node.input and node.op_type == "QuantizeLinear")
    dq = next(node for node in graph.node if q.output[0] in node.input)
    graph.initializer.append(numpy_helper.from_array(np.float32(0.125), "other_scale"))
    q.input[1] = dq.input[1] = "other_scale"


def wide_bias(graph, name):
    """A bias of other steps than those of input times weight."""
    dq = maker(graph, find(graph, name).input[2])
    scale = next(t for t in graph.initializer if t.name == dq.input[1])
    wrong = numpy_helper.from_array((numpy_helper.to_array(scale) * 2).astype(np.float32), "wrong_bias_scale")
    graph.initializer.append(wrong)
    dq.input[1] = "wrong_bias_scale"


def replaced(graph, name, data):
    """Another constant under the same name."""
    index = next(i for i, t in enumerate(graph.initializer) if t.name == name)
    graph.initializer[index].CopyFrom(numpy_helper.from_array(np.asarray(data), name))


def weights_pair(graph, name):
    return maker(graph, find(graph, name).input[1])


def zero_scale(graph):
    replaced(graph, maker(graph, find(graph, "conv2").input[0]).input[1], np.float32(0))


def wrong_axis(graph):
    next(a for a in weights_pair(graph, "conv2").attribute if a.name == "axis").i = 7


def fewer_scales(graph):
    pair = weights_pair(graph, "conv2")
    graph.initializer.append(numpy_helper.from_array(np.full(4, 0.01, np.float32), "fewer"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.int8), "fewer_zeros"))
    pair.input[1], pair.input[2] = "fewer", "fewer_zeros"


def along_inputs(graph):
    pair = weights_pair(graph, "fc")
    graph.initializer.append(numpy_helper.from_array(np.full(8, 0.01, np.float32), "along"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int8), "along_zeros"))
    pair.input[1], pair.input[2] = "along", "along_zeros"
    next(a for a in pair.attribute if a.name == "axis").i = 1


def bias_at_its_end(graph):
    dq = maker(graph, find(graph, "conv2").input[2])
    bias = numpy_helper.to_array(next(t for t in graph.initializer if t.name == dq.input[0])).copy()
    bias[3] = 2**31 - 1
    replaced(graph, dq.input[0], bias)


def dead_channel(graph):
    dq = weights_pair(graph, "conv2")
    codes = numpy_helper.to_array(next(t for t in graph.initializer if t.name == dq.input[0])).copy()
    codes[2] = 0
    replaced(graph, dq.input[0], codes)


def ballast(graph):
    """A tensor that nothing reads."""
    graph.initializer.append(numpy_helper.from_array(np.zeros(300_000, np.float32), "ballast"))


def uneven():
    """Depthwise filters of which one is 40 times as large as the others."""
    model = residual()
    weights = next(t for t in model.graph.initializer if t.name == "depthwise.w")
    data = numpy_helper.to_array(weights).copy()
    data[0] *= 40
    weights.CopyFrom(numpy_helper.from_array(data, weights.name))
    return model


def normalized():
    """A batch-norm that was not folded."""
    n = Net()
    a = n.conv("x", "conv1", 3, 8)
    one = lambda name, value: n.tensor(name, np.full(8, value, np.float32))
    a = n.node("BatchNormalization", [a, one("g", 1.5), one("h", 0.1), one("m", 0.2), one("v", 0.8)], "norm")
    a = n.node("Flatten", [n.node("GlobalAveragePool", [n.node("Relu", [a], "relu")], "mean")], "flatten")
    n.gemm(a, "fc", 8, 5)
    return n.finish()


def faults(folder):
    """Files with faults that other rules of the doctor name; ONNX Runtime refuses some of them."""
    static(folder, "uneven", uneven(), per_channel=False)
    static(folder, "uneven_per_channel", uneven())
    static(folder, "batch_norm", normalized())
    for name, edit in [
        ("zero_scale", zero_scale), ("wrong_axis", wrong_axis), ("fewer_scales", fewer_scales), ("along_inputs", along_inputs),
        ("bias_at_its_end", bias_at_its_end), ("dead_channel", dead_channel), ("ballast", ballast),
    ]:
        model = onnx.load(folder / "plain.onnx")
        edit(model.graph)
        onnx.save(model, folder / f"{name}.onnx")
    model = onnx.load(folder / "plain.onnx")
    model.opset_import[0].version = 12
    onnx.save(model, folder / "opset_12.onnx")


def torch_fake_quantized(folder, golden):
    try:
        import torch
        from torch.ao.quantization import FakeQuantize, MinMaxObserver, PerChannelMinMaxObserver, QConfig
    except ImportError as error:
        kept = [name for name in golden if name.startswith("torch_")]
        print(f"files of PyTorch are those of the golden file ({', '.join(kept)}): {error}")
        for name in kept:
            (folder / f"{name}.onnx").write_bytes(zlib.decompress(base64.b64decode(golden[name]["file"])))
        return
    import torch.ao.quantization as aq
    import torch.ao.nn.qat as nnqat

    for name, bits, scheme in [("torch_fake_quant", (0, 255, torch.quint8), torch.per_tensor_affine), ("torch_fake_quant_s8", (-128, 127, torch.qint8), torch.per_tensor_symmetric)]:
        torch.manual_seed(1)
        low, high, kind = bits
        activation = FakeQuantize.with_args(observer=MinMaxObserver, quant_min=low, quant_max=high, dtype=kind, qscheme=scheme)
        weight = FakeQuantize.with_args(observer=PerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric)

        class Small(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.quant = aq.QuantStub()
                self.conv1, self.relu1 = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()
                self.conv2, self.relu2 = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.ReLU()
                self.fc = torch.nn.Linear(8, 5)

            def forward(self, x):
                x = self.relu1(self.conv1(self.quant(x)))
                return self.fc(self.relu2(self.conv2(x)).mean((2, 3)))

        model = Small().train()
        model.qconfig = QConfig(activation=activation, weight=weight)
        model = aq.prepare_qat(aq.fuse_modules_qat(model, [["conv1", "relu1"], ["conv2", "relu2"]]))
        model(torch.randn(8, 3, 8, 8))
        model.eval()
        model.apply(aq.disable_observer)
        target = folder / f"{name}.onnx"
        torch.onnx.export(model, torch.randn(1, 3, 8, 8), str(target), dynamo=False, opset_version=13, input_names=["x"], dynamic_axes={"x": {0: "N"}})
        exported = onnx.load(target)
        for node in exported.graph.node:
            node.ClearField("doc_string")
        onnx.save(exported, target)


def make(folder, golden):
    static(folder, "per_channel", residual())
    static(folder, "per_tensor", residual(), per_channel=False)
    static(folder, "u8_weights", residual(), weight=U8, per_channel=False)
    static(folder, "s8_activations", residual(), activation=S8)
    static(folder, "s8_symmetric", residual(), activation=S8, extra_options={"ActivationSymmetric": True})
    static(folder, "keep_relu", residual(), extra_options={"QDQKeepRemovableActivations": True})
    static(folder, "keep_relu_s8", residual(), activation=S8, extra_options={"QDQKeepRemovableActivations": True, "ActivationSymmetric": True})
    static(folder, "u8_symmetric", residual(), extra_options={"ActivationSymmetric": True, "QDQKeepRemovableActivations": True})
    static(folder, "pair_on_weights", residual(), extra_options={"AddQDQPairToWeight": True})
    static(folder, "reduced", residual(), reduce_range=True)
    static(folder, "excluded", residual(), nodes_to_exclude=["depthwise"])
    static(folder, "conv_only", residual(), op_types_to_quantize=["Conv"])
    static(folder, "u16_activations", residual(21), activation=U16)
    static(folder, "s4_weights", residual(21), weight=S4, per_channel=False)
    static(folder, "operators", residual(), form=QuantFormat.QOperator, per_channel=False)
    static(folder, "operators_per_channel", residual(), form=QuantFormat.QOperator)
    static(folder, "mobile", mobile())
    static(folder, "mobile_s8", mobile(), activation=S8)
    static(folder, "mobile_operators", mobile(), form=QuantFormat.QOperator)
    static(folder, "branches", branches())
    static(folder, "branches_per_tensor", branches(), per_channel=False)
    static(folder, "branches_operators", branches(), form=QuantFormat.QOperator)
    static(folder, "gemm_not_transposed", plain(transposed=False))
    static(folder, "plain", plain())
    for name, net, kind in [("dynamic", plain(), U8), ("dynamic_s8", plain(), S8)]:
        onnx.save(net, folder / "float.onnx")
        quantize_dynamic(str(folder / "float.onnx"), str(folder / f"{name}.onnx"), weight_type=kind)
        (folder / "float.onnx").unlink()
    edited(folder, "plain", "no_pair_behind", lambda graph: drop_pair_behind(graph, "conv2"))
    edited(folder, "plain", "no_pair_at_mean", lambda graph: drop_pair_behind(graph, "mean"))
    edited(folder, "per_channel", "no_pair_at_pool", lambda graph: drop_pair_behind(graph, "pool"))
    edited(folder, "per_channel", "no_pair_at_add", lambda graph: drop_pair_behind(graph, "add"))
    edited(folder, "per_channel", "other_scale_at_pool", lambda graph: other_scale_behind(graph, "pool"))
    edited(folder, "plain", "float_bias", lambda graph: float_bias(graph, "conv2"))
    edited(folder, "plain", "float_bias_fc", lambda graph: float_bias(graph, "fc"))
    edited(folder, "plain", "no_zero_points", without_zero_points)
    edited(folder, "plain", "bias_scale", lambda graph: wide_bias(graph, "conv2"))
    edited(folder, "plain", "also_output", lambda graph: also_an_output(graph, "conv2"))
    edited(folder, "plain", "read_twice", lambda graph: read_twice(graph, "conv2"))
    torch_fake_quantized(folder, golden)
    faults(folder)
    static(folder, "operators_of_conv", plain(), form=QuantFormat.QOperator, op_types_to_quantize=["Conv"])
    static(folder, "operators_of_matmul", branches(), form=QuantFormat.QOperator, op_types_to_quantize=["MatMul"])


def placed(file, folder):
    """Names of the nodes that are looked for, in integers and in f32; or why the session was refused."""
    model = onnx.load(file)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.tmp")
    # Without the last level, which moves what is fused already to channels last, and drops its names.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each kind
        return {"refused": str(error).replace(f"{file.parent}/", "").splitlines()[0][:120]}
    run = {node.name: node.op_type for node in onnx.load(folder / "optimized.tmp").graph.node}
    (folder / "optimized.tmp").unlink()
    # A Concat that is gone put shapes together.
    is_there = lambda node: node.op_type != "Concat" or node.name in run
    names = [n.name for n in model.graph.node if n.op_type in LOOKED_FOR | INTEGER and is_there(n)]
    integer = [name for name in names if run.get(name) in INTEGER]
    left = [n.name for n in model.graph.node if n.op_type in CLIPS and run.get(n.name) in CLIPS]
    return {"integer": integer, "float": [name for name in names if name not in integer] + left}


def in_openvino(file, known):
    """Names of the convolutions that OpenVINO runs in integers and in f32, or why it refuses the file; without it what is known."""
    try:
        import openvino
    except ImportError:
        return {key: value for key, value in known.items() if key.startswith("openvino")}
    model = onnx.load(file)
    try:
        graph = openvino.Core().read_model(str(file))
        graph.reshape({graph.inputs[0]: [1, 3, 8, 8]})
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        run = openvino.Core().compile_model(graph, "CPU", settings).get_runtime_model()
    except Exception as error:  # as above
        return {"openvino_refused": str(error).strip().splitlines()[-1][:120]}
    precision = {}
    for op in run.get_ordered_ops():
        about = op.get_rt_info()
        if about["layerType"].astype(str) == "Convolution":
            precision[op.get_friendly_name().removesuffix("/WithoutBiases")] = about["runtimePrecision"].astype(str)
    names = [node.name for node in model.graph.node if node.op_type == "Conv" and node.name in precision]
    integer = [name for name in names if precision[name] in ("u8", "i8")]
    return {"openvino_integer": integer, "openvino_float": [name for name in names if name not in integer]}


def in_rust(runtime, program, file, known):
    """Names of the products that tract or rten runs in integers and in f32, or why it refuses the file; without the program what is
    known."""
    if not program:
        return {key: value for key, value in known.items() if key.startswith(runtime)}
    run = subprocess.run([program, runtime, file, "8"], capture_output=True, text=True)
    if run.returncode:
        return {f"{runtime}_refused": run.stderr.strip().splitlines()[0][:120]}
    if run.stdout.startswith("refused"):
        return {f"{runtime}_refused": run.stdout.strip().split("\t", 1)[1][:120]}
    products = [node for node in onnx.load(file).graph.node if node.op_type in PRODUCTS]
    types = {}
    if runtime == "tract":
        # One node of a file is one or several of its own, with the file's name or one that begins with it and a dot.
        for line in run.stdout.splitlines():
            op, name, inputs = line.split("\t")
            if op in ("Conv", "EinSum"):
                types[name.removesuffix(".einsum").removesuffix(".ab")] = inputs.split()[0]
    else:
        # A node that was fused has the name of the last of those it is, but reads the weights of the product.
        by_weights = {node.input[3 if node.op_type.startswith("Q") else 1]: node.name for node in products}
        for step in re.split(r"^#", run.stdout, flags=re.M):
            first, weights = (re.search(rf"^  input {i}: (.*) \(tensor\((\w+)\)", step, re.M) for i in (0, 1))
            if first and weights and weights[1] in by_weights:
                types[by_weights[weights[1]]] = first[2].upper()
    integer = [node.name for node in products if types[node.name] != "F32"]
    return {f"{runtime}_integer": integer, f"{runtime}_float": [node.name for node in products if node.name not in integer]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--more", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--golden", type=pathlib.Path)
    parser.add_argument("--runtimes", type=pathlib.Path, help="the program of bench/onnx/runtimes")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    before = json.loads(arguments.golden.read_text()) if arguments.golden and arguments.golden.exists() else {}
    if not any(arguments.folder.glob("*.onnx")):
        make(arguments.folder, before)
    golden = {}
    for file in sorted(arguments.folder.glob("*.onnx")) + arguments.more:
        known = before.get(file.stem, {})
        found = placed(file, arguments.folder) | in_openvino(file, known)
        for runtime in ("tract", "rten"):
            found |= in_rust(runtime, arguments.runtimes, file, known)
        print(file.name, json.dumps(found))
        if file in arguments.more:
            continue
        golden[file.stem] = {"file": base64.b64encode(zlib.compress(file.read_bytes(), 9)).decode(), **found}
    if arguments.golden:
        arguments.golden.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
