"""FP32 logits of lowbit against ONNX Runtime's, for ONNX files: the table of docs/onnx.md.

    cargo build --release -p lowbit-onnx --example logits
    python check.py target/release/examples/logits FILE.onnx ...

Needs onnx, onnxruntime, numpy. 64 random images each (--images N for another number); a file passes if no logit differs by more
than 1e-4 of the largest one. Random pixels, divided by 255; the layout is read from the input's shape.
"""
import subprocess, sys, tempfile, pathlib
import numpy as np, onnx, onnxruntime as ort
from onnx import version_converter

args = sys.argv[1:]
count = 64
if "--images" in args:
    at = args.index("--images"); count = int(args[at + 1]); del args[at:at + 2]
binary, files = args[0], args[1:]
work = pathlib.Path(tempfile.mkdtemp())
lowbit = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
options = ort.SessionOptions(); options.intra_op_num_threads = 1; options.log_severity_level = 3

def main():
    print("| file | opset | largest difference, of the largest logit | same class | |\n|---|--:|--:|--:|---|")
    failed = 0
    for file in files:
        name = pathlib.Path(file).name
        model = onnx.load(file, load_external_data=False)
        opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        initial = {t.name for t in model.graph.initializer}
        info = next(i for i in model.graph.input if i.name not in initial)
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        nhwc = dims[3] in (1, 3) and dims[1] not in (1, 3)
        shape = [64 if d <= 0 else d for d in dims]
        shape[3 if nhwc else 1] = dims[3 if nhwc else 1] or 3
        if dims[0] not in (0, 1):
            shape[0] = dims[0]
        one = shape[1:] if nhwc else [shape[2], shape[3], shape[1]]
        pixels = np.random.default_rng(7).integers(0, 256, (count, *one), dtype=np.uint8)
        pixels.tofile(work / "pixels")
        lowbit.stdin.write(f"{file}\t{work/'pixels'}\t{work/'logits'}\n"); lowbit.stdin.flush()
        answer = lowbit.stdout.readline().strip()
        if not answer.startswith("ok"):
            print(f"| {name} | {opset} | | | refused: {answer[6:].split(': ', 1)[-1]} |", flush=True)
            continue
        ours = np.fromfile(work / "logits", np.float32).reshape(count, -1)
        # Logits are compared: a Softmax at the end is taken off.
        last = model.graph.node[-1]
        while last.op_type in ("Softmax", "ArgMax", "LogSoftmax", "Identity"):
            model.graph.output[0].name = last.input[0]
            del model.graph.output[0].type.tensor_type.shape.dim[:]
            model.graph.node.remove(last); last = model.graph.node[-1]
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
            onnx.load_external_data_for_model(model, str(pathlib.Path(file).parent))
        session = ort.InferenceSession(model.SerializeToString(), options)
        x = pixels.astype(np.float32) / np.float32(255)
        x = x if nhwc else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        if "float16" in session.get_inputs()[0].type:
            x = x.astype(np.float16)
        theirs = np.concatenate([session.run(None, {info.name: x[i:i + 1]})[0].reshape(1, -1) for i in range(count)]).astype(np.float32)
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        same = (ours.argmax(1) == theirs.argmax(1)).sum()
        bad = not difference <= 1e-4
        failed += bad
        print(f"| {name} | {opset} | {difference:.1e} | {same} of {count} | {answer[3:]}{' **over 1e-4**' if bad else ''} |", flush=True)
    return failed

sys.exit(main())
