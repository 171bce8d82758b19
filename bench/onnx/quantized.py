"""Quantizes ONNX models with ONNX Runtime's own tools, in every form that they write, and keeps its logits: lowbit reads such
files, and its logits must be equal to the bit.

    python bench/onnx/quantized.py --golden crates/lowbit-onnx/tests/golden/quantized.json
    cargo build --release -p lowbit-onnx --example logits
    python bench/onnx/quantized.py --lowbit target/release/examples/logits [MODEL.onnx ...]
    python bench/onnx/quantized.py --lowbit target/release/examples/logits --nncf MODEL.onnx ...

The first writes small networks for crates/lowbit-onnx/tests/quantized.rs; the second compares those and, if they are named, FP32
models of others (quantized here on random images), the third those alone, quantized by NNCF. Needs onnx, onnxruntime, numpy, and nncf for
the third.
"""
import argparse, base64, contextlib, io, json, logging, pathlib, subprocess, tempfile
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

logging.disable(logging.WARNING)
SIDE, IMAGES = 16, 6
FORMS = {
    "qdq_u8s8_channel": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, True),
    "qdq_u8s8_tensor": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, False),
    "qdq_s8s8_channel": (QuantFormat.QDQ, QuantType.QInt8, QuantType.QInt8, True),
    "qoperator_u8s8_channel": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, True),
    "qoperator_u8s8_tensor": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, False),
    # The second convolution stays f32: ONNX Runtime adds up its products in another order than lowbit.
    "qdq_u8s8_exclude": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, True),
    # Weights of 4 bits, which ONNX Runtime computes with in f32.
    "qdq_u8s4_tensor": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt4, False),
    # A scale per channel in front of depthwise convolutions, as NNCF writes it; in f32 too.
    "qdq_u8s8_scales": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, True),
}
# Forms of the small networks alone.
ALONE = {"qdq_u8s4_tensor": "plain", "qdq_u8s8_scales": "mobile"}
# What lowbit refuses: weights whose zero point is not in the middle, and ranges that are found at run time.
REFUSED = ("qdq_u8u8", "dynamic")


class Builder:
    """A graph with weights of about the size that training gives."""

    def __init__(self, seed):
        self.rng, self.nodes, self.initializers, self.count = np.random.default_rng(seed), [], [], 0

    def constant(self, array):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{op.lower()}{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op.lower()}{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, channels_in, channels, kernel=3, stride=1, group=1, bias=True):
        shape = (channels, channels_in // group, kernel, kernel)
        # Channels of different ranges, so that scales per channel matter.
        size = self.rng.uniform(0.3, 2.0, (channels, 1, 1, 1)) / np.sqrt(np.prod(shape[1:]))
        w = (self.rng.standard_normal(shape) * size).astype(np.float32)
        inputs = [x, self.constant(w)]
        if bias:
            inputs.append(self.constant(self.rng.normal(0, 0.3, channels).astype(np.float32)))
        pad = kernel // 2
        return self.node("Conv", *inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=group)

    def gemm(self, x, inputs, outputs):
        w = (self.rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        b = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        return self.node("Gemm", x, self.constant(w), self.constant(b), transB=1)

    def matmul(self, x, inputs, outputs):
        w = (self.rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
        return self.node("MatMul", x, self.constant(w))

    def model(self, output, classes):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])
        logits = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(self.nodes, "net", [image], [logits], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def plain():
    b = Builder(1)
    x = b.node("Relu", b.conv("image", 3, 8))
    x = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("Relu", b.conv(x, 8, 12, stride=2, bias=False))
    x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
    return b.model(b.gemm(x, 12, 5), 5)


def residual():
    b = Builder(2)
    six = [b.constant(np.array(x, np.float32)) for x in (0, 6)]
    x = b.node("Clip", b.conv("image", 3, 8, stride=2), *six)
    y = b.node("Clip", b.conv(x, 8, 8, group=8), *six)
    y = b.conv(y, 8, 8, kernel=1)
    x = b.node("Add", y, x)
    z = b.node("Relu", b.conv(x, 8, 4, kernel=1))
    x = b.node("Concat", x, z, axis=1)
    x = b.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("Flatten", x, axis=1)
    x = b.node("Relu", b.gemm(x, 12 * 16, 9))
    return b.model(b.node("Softmax", b.gemm(x, 9, 4), axis=1), 4)


def gated():
    b = Builder(3)
    x = b.conv("image", 3, 8, stride=2)
    x = b.node("Mul", x, b.node("Sigmoid", x))
    left, right = b.node("Split", x, b.constant(np.array([3, 5])), outputs=2, axis=1)
    left = b.node("LeakyRelu", b.conv(left, 3, 3, group=3), alpha=0.1)
    x = b.node("Concat", left, right, axis=1)
    shape = [b.constant(np.array(s)) for s in ([-1, 2, 4, 8, 8], [-1, 8, 8, 8])]
    x = b.node("Transpose", b.node("Reshape", x, shape[0]), perm=[0, 2, 1, 3, 4])
    x = b.node("Reshape", x, shape[1])
    gate = b.node("Sigmoid", b.conv(b.node("GlobalAveragePool", x), 8, 8, kernel=1))
    x = b.node("Mul", x, gate)
    x = b.node("Relu", b.conv(x, 8, 8, stride=2))
    x = b.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    return b.model(b.matmul(x, 8, 3), 3)


def mobile():
    """Two depthwise convolutions: what the second one reads is also added."""
    b = Builder(4)
    six = [b.constant(np.array(x, np.float32)) for x in (0, 6)]
    x = b.node("Clip", b.conv("image", 3, 8, stride=2), *six)
    x = b.node("Clip", b.conv(x, 8, 8, group=8), *six)
    x = b.node("Clip", b.conv(x, 8, 12, kernel=1), *six)
    y = b.conv(x, 12, 12, group=12)
    x = b.node("Add", x, y)
    x = b.node("Flatten", b.node("GlobalAveragePool", x), axis=1)
    return b.model(b.gemm(x, 12, 5), 5)


def with_scales(file):
    """Gives what depthwise convolutions read a scale per channel, and such convolutions biases in f32."""
    model = onnx.load(file)
    graph, rng = model.graph, np.random.default_rng(9)
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    group = lambda node: next((a.i for a in node.attribute if a.name == "group"), 1)
    for conv in [node for node in graph.node if node.op_type == "Conv" and group(node) > 1]:
        before = makers[makers[conv.input[0]].input[0]]
        values = [constants[name] for name in before.input[1:]]
        # The largest stays: nothing is cut that was not.
        scales = (values[0] * rng.uniform(0.1, 1, group(conv))).astype(np.float32)
        scales[0] = values[0]
        new = [f"{conv.name}.{part}" for part in ("scales", "zero_points", "quantized", "read")]
        graph.initializer.append(numpy_helper.from_array(scales, new[0]))
        graph.initializer.append(numpy_helper.from_array(np.full(len(scales), values[1]), new[1]))
        place = list(graph.node).index(conv)
        graph.node.insert(place, helper.make_node("QuantizeLinear", [before.input[0], *new[:2]], [new[2]], name=new[2], axis=1))
        graph.node.insert(place + 1, helper.make_node("DequantizeLinear", [new[2], *new[:2]], [new[3]], name=new[3], axis=1))
        conv.input[0] = new[3]
        bias = makers[conv.input[2]]
        real = constants[bias.input[0]] * constants[bias.input[1]]
        graph.initializer.append(numpy_helper.from_array(real.astype(np.float32), f"{conv.name}.bias"))
        conv.input[2] = f"{conv.name}.bias"
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if not read & set(node.output)]:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if not read & set(node.output) and node.output[0] != graph.output[0].name]:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in {n for node in graph.node for n in node.input}]:
        graph.initializer.remove(tensor)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


class Images(CalibrationDataReader):
    def __init__(self, name, images):
        self.batches = iter([{name: images[i:i + 1]} for i in range(len(images))])

    def get_next(self):
        return next(self.batches, None)


def refused(model, images, form, folder):
    source, target = folder / "fp32.onnx", folder / f"{form}.onnx"
    onnx.save(model, source)
    with contextlib.redirect_stdout(io.StringIO()):
        if form == "dynamic":
            quantize_dynamic(str(source), str(target))
        else:
            reader = Images(model.graph.input[0].name, images)
            quantize_static(str(source), str(target), reader, weight_type=QuantType.QUInt8, activation_type=QuantType.QUInt8)
    return target


def quantized(model, images, form, folder):
    format, activations, weights, per_channel = FORMS[form]
    source, target = folder / "fp32.onnx", folder / f"{form}.onnx"
    if weights == QuantType.QInt4:
        model.opset_import[0].version, model.ir_version = 21, 10
    onnx.save(model, source)
    reader = Images(model.graph.input[0].name, images)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    excluded = convolutions[1:2] if form.endswith("exclude") else []
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(str(source), str(target), reader, quant_format=format, activation_type=activations, weight_type=weights,
            per_channel=per_channel, calibrate_method=CalibrationMethod.MinMax, nodes_to_exclude=excluded)
    if form.endswith("scales"):
        with_scales(target)
    return target


def logits(file, images):
    """What the model gives before a Softmax at the end, which lowbit leaves out."""
    model = onnx.load(file)
    nodes = list(model.graph.node)
    makers = {output: node for node in nodes for output in node.output}
    output = model.graph.output[0].name
    while True:
        node = makers[output]
        if node.op_type in ("Softmax", "QLinearSoftmax"):
            break
        if node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
            node = None
            break
        output = node.input[0]
    if node is not None:
        value = node.input[0]
        if node.op_type == "QLinearSoftmax":
            dequantize = helper.make_node("DequantizeLinear", list(node.input[:3]), ["before_softmax"])
            model.graph.node.append(dequantize)
            value = "before_softmax"
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Without VNNI, ONNX Runtime's u8×s8 products saturate at 16 bits unless it is told to be exact.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if pathlib.Path(file).stem.endswith("scales"):
        # Optimized, 1.32 makes a QLinearConv of them, which refuses zero points per channel.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: images[i:i + 1]})[0] for i in range(len(images))])


def pixels(count, side, seed):
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 150, side * side * 3).reshape(1, side, side, 3) * rng.uniform(0, 1, (count, 1, 1, 1))
    return np.clip(slope + rng.uniform(0, 105, (count, side, side, 3)), 0, 255).astype(np.uint8)


def normalized(pixels):
    return np.ascontiguousarray((pixels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))


def by_nncf(files, folder):
    """The same of models that NNCF quantizes with its defaults."""
    import nncf
    images, calibration = pixels(64, 64, 7), normalized(pixels(16, 64, 8))
    for file in files:
        model = onnx.load(file)
        data = nncf.Dataset([{model.graph.input[0].name: calibration[i:i + 1]} for i in range(len(calibration))])
        target = folder / f"{pathlib.Path(file).stem}.nncf.onnx"
        onnx.save(nncf.quantize(model, data, subset_size=len(calibration)), target)
        yield target.stem, target, images, logits(target, normalized(images))


def cases(files, folder):
    """Name, file, pixels and ONNX Runtime's logits of everything."""
    networks = {"plain": plain(), "residual": residual(), "gated": gated(), "mobile": mobile()}
    for file in files:
        networks[pathlib.Path(file).stem] = onnx.load(file)
    for name, model in networks.items():
        side = SIDE if name in ("plain", "residual", "gated", "mobile") else 64
        images = pixels(IMAGES if side == SIDE else 64, side, 7)
        calibration = normalized(pixels(16, side, 8))
        for form in FORMS:
            if (form in ALONE or name == "mobile") and ALONE.get(form) != name:
                continue
            if side == SIDE and name != "residual" and form in ("qdq_u8s8_tensor", "qdq_u8s8_exclude"):
                continue
            file = quantized(model, calibration, form, folder)
            yield f"{name}.{form}", file, images, logits(file, normalized(images))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--golden", type=pathlib.Path)
    parser.add_argument("--lowbit")
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--nncf", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.keep or pathlib.Path(tempfile.mkdtemp())
    golden = {}
    encoded = lambda data: base64.b64encode(data).decode()
    if arguments.lowbit:
        lowbit = subprocess.Popen([arguments.lowbit], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for name, file, images, theirs in (by_nncf if arguments.nncf else cases)(arguments.files, folder):
        if arguments.keep:
            file = file.rename(folder / f"{name}.onnx")
        golden["images"] = golden.get("images") or encoded(images.tobytes())
        golden[name] = {"file": encoded(file.read_bytes()), "logits": encoded(theirs.astype("<f4").tobytes())}
        if arguments.lowbit:
            images.tofile(folder / "pixels")
            lowbit.stdin.write(f"{file}\t{folder / 'pixels'}\t{folder / 'logits'}\n"); lowbit.stdin.flush()
            answer = lowbit.stdout.readline().strip()
            if not answer.startswith("ok"):
                print(f"| {name} | {answer} |", flush=True)
                continue
            ours = np.fromfile(folder / "logits", np.float32).reshape(theirs.shape[0], -1)
            theirs = theirs.reshape(ours.shape)
            difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
            print(f"| {name} | {(ours == theirs).sum()} of {ours.size} | {difference:.1e} | {(ours.argmax(1) == theirs.argmax(1)).sum()} of {len(ours)} |", flush=True)
    if arguments.golden:
        calibration = normalized(pixels(16, SIDE, 8))
        for form in REFUSED:
            file = refused(plain(), calibration, form, folder)
            golden[f"refused.{form}"] = {"file": encoded(file.read_bytes()), "logits": ""}
        arguments.golden.write_text(json.dumps(golden, indent=0) + "\n")


main()
