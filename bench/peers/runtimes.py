"""ONNX Runtime and OpenVINO: a model's file, FP32 and static INT8, as functions that run a batch."""

from pathlib import Path


def onnx_runtime(path, images, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images}
    session.run(None, feed)
    return lambda: session.run(None, feed)


def quantize(fp32, path, batches):
    """Static INT8 as ONNX Runtime makes it: QDQ, u8 activations, s8 weights per output channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(fp32, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):
        feeds = iter([{name: batch} for batch in batches])

        def get_next(self):
            return next(self.feeds, None)

    prepared = Path(path).with_suffix(".prepared.onnx")
    quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def open_vino(net, images, threads):
    """`net` is a file, or a model of OpenVINO's."""
    import openvino

    core = openvino.Core()
    net = core.read_model(net) if isinstance(net, (str, Path)) else net.clone()
    net.reshape(list(images.shape))
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # its own choice, bf16, is slower where there is no AMX
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(net, "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=False))
    request.infer()
    return request.infer


QUANTIZED = {}


def nncf_model(path, batches):
    """NNCF's post-training quantization."""
    import nncf
    import openvino

    if path not in QUANTIZED:
        net = openvino.Core().read_model(path)
        QUANTIZED[path] = nncf.quantize(net, nncf.Dataset(batches), subset_size=len(batches))
    return QUANTIZED[path]
