"""Writes the ONNX file of the command line's tests: which of three colors an 8x8 image has, from pixels of 0 to 255.

    python colors.py crates/lowbit-cli/tests/fixtures/colors.onnx
    python colors.py --depthwise crates/lowbit-cli/tests/fixtures/colors_depthwise.onnx

Needs onnx and numpy. The first convolution of the second reads each channel alone, so that its channels cannot be turned. Pixels that were scaled to 0..1 or about 0 leave nothing behind the ReLU: every answer is the same class.
"""
import sys
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

is_depthwise = "--depthwise" in sys.argv
weight = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
if is_depthwise:
    weight = np.ones((3, 1, 1, 1), np.float32)
initializers = {
    "weight": weight,
    "bias": np.full(3, -100, np.float32),
    "head": np.array([[3, -1, -1], [-1, 3, -1], [-1, -1, 3]], np.float32) / 50,
    "head_bias": np.zeros(3, np.float32),
}
nodes = [
    helper.make_node("Conv", ["pixels", "weight", "bias"], ["above"], name="above", kernel_shape=[1, 1], **({"group": 3} if is_depthwise else {})),
    helper.make_node("Relu", ["above"], ["kept"], name="kept"),
    helper.make_node("GlobalAveragePool", ["kept"], ["mean"], name="mean"),
    helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
    helper.make_node("Gemm", ["flat", "head", "head_bias"], ["scores"], name="scores", transB=1),
    helper.make_node("Softmax", ["scores"], ["probabilities"], name="probabilities"),
]
graph = helper.make_graph(
    nodes,
    "colors",
    [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
    [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
    [numpy_helper.from_array(value, name) for name, value in initializers.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="colors.py")
checker.check_model(model)
save(model, sys.argv[-1])
