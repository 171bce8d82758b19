"""Writes crates/lowbit-onnx/tests/golden/node_tests.json: the nodes of ONNX's own backend tests, fed with pixels.

    python node_tests.py ../../crates/lowbit-onnx/tests/golden/node_tests.json

Needs onnx and onnxruntime. lowbit runs images, so that each test's node (operator, attributes, constant inputs) is put behind an image
input of the test's shape (a batch of one) and before a flatten; ONNX Runtime says what comes of (pixel / 255 - 0.5) / 0.25. At most
160 values of each result are kept, evenly spread. Tests that cannot be put so are counted by reason under `left_out`.
"""
import base64, collections, importlib, json, pathlib, sys, warnings
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh
warnings.filterwarnings("ignore")

FILES = """add averagepool batch_normalization clip concat conv div dropout elu flatten gelu gemm globalaveragepool globalmaxpool hardsigmoid
hardswish identity layernormalization leakyrelu logsoftmax matmul max maxpool min mul pad prelu reducemean relu reshape sigmoid slice
softmax split squeeze sub sum swish tanh transpose unsqueeze""".split()
MOVES = ("Identity", "Dropout", "Concat", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Slice", "Split", "Max", "Min", "Pad")
WEIGHTS = ("Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "PRelu")
left_out = collections.Counter()

def cases():
    import onnx.backend.test.case.node as node
    for name in FILES:
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    for case in node._NodeTestCases:
        yield case.name, case.model, case.data_sets[0][0]
    data = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for folder in sorted([*data.glob("pytorch-converted/*"), *data.glob("pytorch-operator/*")]):
        model = onnx.load(folder / "model.onnx")
        initial = {t.name for t in model.graph.initializer}
        names = [i.name for i in model.graph.input if i.name not in initial]
        inputs = []
        for index, name in enumerate(names):
            tensor = onnx.TensorProto(); tensor.ParseFromString((folder / f"test_data_set_0/input_{index}.pb").read_bytes())
            inputs.append(nh.to_array(tensor))
        yield f"{folder.parent.name}/{folder.name}", model, inputs

def wrapped(model, inputs):
    """The model behind an image and before a flatten, and the image's shape [h, w, c]."""
    graph = model.graph
    initial = {t.name for t in graph.initializer}
    names = [i.name for i in graph.input if i.name not in initial]
    if any("expanded" in n.name or n.domain for n in graph.node):
        return "a function's body"
    if not inputs or not isinstance(inputs[0], np.ndarray) or inputs[0].dtype != np.float32:
        return "no f32 input first"
    dims = list(inputs[0].shape)
    op = graph.node[0].op_type
    if len(dims) not in (1, 2, 3, 4) or (len(dims) == 3 and op in ("Conv", "MaxPool", "AveragePool", "BatchNormalization")):
        return "1-D or 3-D images"
    batch = 1
    if len(dims) in (2, 4) and dims[0] > 1:
        batch, dims[0] = dims[0], 1
    # Tensors that are no images, and operators over the last axis, have their channels there.
    last = len(dims) < 4 or op in ("LayerNormalization", "MatMul")
    whole = [1] * (4 - len(dims)) + dims
    image = [1, whole[3], whole[1], whole[2]] if last else dims
    # What only moves or hands on needs something that computes.
    nodes = [h.make_node("Relu", ["image"], ["in4"]), h.make_node("Transpose", ["in4"], ["in_t"], perm=[0, 2, 3, 1]) if last else h.make_node("Identity", ["in4"], ["in_t"]),
             h.make_node("Reshape", ["in_t", "own"], [names[0]])] if last or op in MOVES else [h.make_node("Identity", ["image"], [names[0]])]
    constants = [nh.from_array(np.array(dims, np.int64), "own")] if len(nodes) > 1 else []
    for name, value in zip(names[1:], inputs[1:]):
        if value is None:
            continue
        value = np.asarray(value)
        if value.dtype == np.float32 and list(value.shape) == list(inputs[0].shape) and op not in WEIGHTS:
            nodes.append(h.make_node("Sigmoid", [names[0]], [name]))
        elif value.dtype == np.float32 and batch > 1 and value.ndim == len(dims) and value.shape[0] == batch and op not in WEIGHTS:
            return "constants for a batch of more than one"
        else:
            constants.append(nh.from_array(value, name))
    for node in graph.node:
        new = onnx.NodeProto(); new.CopyFrom(node)
        nodes.append(new)
    opset = max(next(o.version for o in model.opset_import if o.domain == ""), 7)
    output = graph.output[0].name
    if op in ("Softmax", "LogSoftmax") and op == "LogSoftmax":
        return "LogSoftmax, which is supported at the end of a model alone"
    if op == "Softmax":
        # At the end it would be left out.
        nodes.append(h.make_node("Relu", [output], ["kept"])); output = "kept"
    def build(tail, out):
        g = h.make_graph(nodes + tail, "t", [h.make_tensor_value_info("image", T.FLOAT, image)],
                         [h.make_tensor_value_info(out, T.FLOAT, None)], list(graph.initializer) + constants)
        return h.make_model(g, opset_imports=[h.make_opsetid("", opset)], ir_version=min(model.ir_version, 11) if model.ir_version >= 4 else 4)
    options = ort.SessionOptions(); options.log_severity_level = 4
    run = lambda model, x: ort.InferenceSession(model.SerializeToString(), options).run(None, {"image": x})[0]
    pixels = np.random.default_rng(len(graph.node) + sum(image)).integers(0, 256, image, dtype=np.uint8)
    x = ((pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.25))
    try:
        y = run(build([], output), x)
    except Exception as error:
        return "ONNX Runtime does not run it with a batch of one"
    if y.dtype != np.float32 or y.size < 2:
        return "less than two results"
    add = lambda name, *values: constants.append(nh.from_array(np.array(values, np.int64), name))
    if y.ndim == 4 and y.shape[0] == 1 and not last:
        tail = []
        add("flat", 1, y.size)
        tail = [h.make_node("Transpose", [output], ["yt"], perm=[0, 2, 3, 1]), h.make_node("Reshape", ["yt", "flat"], ["logits"])]
    elif len(dims) == 4 and y.ndim == 2 and y.shape[0] == 1 and op in ("Flatten", "Reshape"):
        weights = np.random.default_rng(5).standard_normal((y.size, 8)).astype(np.float32)
        constants.append(nh.from_array(weights, "tail")); tail = [h.make_node("MatMul", [output, "tail"], ["logits"])]
    else:
        add("flat", 1, y.size); tail = [h.make_node("Reshape", [output, "flat"], ["logits"])]
    final = build(tail, "logits")
    try:
        logits = run(final, x).reshape(-1)
    except Exception as error:
        return "ONNX Runtime does not run it with a batch of one"
    return final, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), logits

def main():
    tests, seen = [], set()
    for name, model, inputs in cases():
        if name.startswith("test_sce") or "expanded" in name or name in seen:
            continue
        found = wrapped(model, inputs)
        if isinstance(found, str):
            left_out[found] += 1
            continue
        final, pixels, logits = found
        bytes_ = final.SerializeToString()
        if len(bytes_) > 20000 or pixels.size > 13000:
            left_out["larger than a test should be"] += 1
            continue
        seen.add(name)
        at = np.unique(np.linspace(0, logits.size - 1, min(160, logits.size)).astype(int))
        tests.append(dict(name=name, model=base64.b64encode(bytes_).decode(), pixels=base64.b64encode(pixels.tobytes()).decode(),
                          size=int(logits.size), values=base64.b64encode(logits[at].astype("<f4").tobytes()).decode()))
    out = dict(made_by=f"bench/onnx/node_tests.py, onnx {onnx.__version__}, onnxruntime {ort.__version__}", left_out=dict(left_out), tests=tests)
    pathlib.Path(sys.argv[1]).write_text(json.dumps(out, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    print(len(tests), "tests,", dict(left_out))

main()
