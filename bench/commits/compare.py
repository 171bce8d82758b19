"""Whether a change lost anything: two builds of lowbit, the models that they make and the time that they take.

    python compare.py build OLD_COMMIT DIR       builds that commit in DIR and prints the binary's path
    python compare.py models OLD NEW             trains and quantizes the same things with both, compares the files
    python compare.py speed OLD NEW              every path of docs/benchmarks.md, both binaries in turns; a change of
                                                 operators, kernels or the build: also with --models FILE.onnx of networks
                                                 that have them (SiLU, hard-swish, attention)

`models` exits with 1 where a tensor or an evaluation differs. Needs Python's own packages alone."""

import argparse
import itertools
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
from protocol import EngineError, Server  # noqa: E402


def build(args):
    folder = Path(args.folder).resolve()
    if not folder.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(folder), args.commit], check=True)
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=folder, check=True)
    print(folder / "target/release/lowbit")


def width(bits):
    return "1 bit" if bits == 1 else f"{bits} bits"


# --- models -------------------------------------------------------------------------------------------------------------


def tensors(path):
    """Names to (dtype, shape, bytes) of a safetensors file, and its `lowbit` metadata."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length :]
    found = {
        name: (entry["dtype"], tuple(entry["shape"]), body[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }
    return found, json.loads(metadata.get("lowbit", "{}"))


def run(binary, *arguments, check=True):
    result = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True)
    if check and result.returncode:
        sys.exit(f"{binary} {' '.join(map(str, arguments))}: exit code {result.returncode}\n{result.stderr}")
    return result.stdout


def score(binary, model, data):
    """What `eval` says of a model file: loss and accuracy to the last digit, and the confusion of the classes."""
    found = json.loads(run(binary, "eval", model, *data, "--json"))
    accuracy = next(found[key] for key in ("accuracy_percent", "accuracy") if key in found)
    return {"loss": found["loss"], "accuracy": accuracy, "confusion": found["confusion"]}


def same_quantization(old, new):
    """Scales and zero points of the activations and widths of the weights, where both files have them."""
    old, new = old.get("quantization"), new.get("quantization")
    if old is None or new is None:
        return old is new
    return old["activations"] == new["activations"] and old["weight_bits"] == new["weight_bits"]


class Both:
    """The same commands by both binaries, each in a folder of its own."""

    def __init__(self, args, folder):
        self.binaries = [Path(args.old).resolve(), Path(args.new).resolve()]
        self.folders = [folder / "old", folder / "new"]
        self.rows, self.differ = [], 0

    def run(self, *arguments):
        for binary, folder in zip(self.binaries, self.folders):
            folder.mkdir(parents=True, exist_ok=True)
            run(binary, *[str(argument).replace("{}", str(folder)) for argument in arguments])

    def compare(self, label, pattern, data):
        """Files that match `pattern`: tensors, activation parameters, and what each binary says of either file."""
        old, new = [sorted(folder.glob(pattern)) for folder in self.folders]
        if len(old) != 1 or len(new) != 1:
            self.add(label, f"{len(old)} and {len(new)} files match {pattern}", "", "")
            return
        old, new = old[0], new[0]
        (old_tensors, old_header), (new_tensors, new_header) = tensors(old), tensors(new)
        equal = old_tensors == new_tensors and same_quantization(old_header, new_header)
        scores = [score(binary, path, data) for binary, path in zip([*self.binaries, self.binaries[1]], [old, new, old])]
        self.add(
            label,
            "equal" if equal else "DIFFER",
            "equal" if scores[0] == scores[1] else "DIFFER",
            "equal" if scores[0] == scores[2] else "DIFFER",
            f"{old.stat().st_size:,} / {new.stat().st_size:,}",
        )

    def add(self, label, tensors, evaluation, old_file, sizes=""):
        self.differ += not tensors == evaluation == old_file == "equal"
        print(f"| {label} | {tensors} | {evaluation} | {old_file} | {sizes} |", flush=True)


def models(args):
    print("| model | tensors | evaluation | old file in the new binary | bytes, old / new |")
    print("|---|---|---|---|--:|")
    with tempfile.TemporaryDirectory() as scratch:
        both = Both(args, Path(scratch))
        for name in args.models:
            data = ["--data", "landcover", "--limit", args.limit, "--seed", 3]
            training = [*data, "--model", name, "--epochs", args.epochs, "-q"]
            out = f"{{}}/{name}"
            both.run("train", *training, "--out", out)
            both.compare(f"{name}, FP32", f"{name}/train/model_fp32.safetensors", data)
            file = f"{out}/train/model_fp32.safetensors"
            for bits, method in itertools.product((16, 8, 4, 2, 1), ("static", "dynamic", "float")):
                kind = ["--act-bits", "float"] if method == "float" else ["--method", method]
                to = f"{name}-{method}-{bits}.safetensors"
                both.run("quantize", file, *data, "--bits", bits, *kind, "-o", f"{{}}/{to}", "-q")
                both.compare(f"{name}, {width(bits)} after training, {method}", to, data)
            both.run("quantize", file, *data, "--bits", 1, "--act-bits", 1, "--edge-bits", 1, "-o", f"{{}}/{name}-1-1.safetensors", "-q")
            both.compare(f"{name}, 1-bit weights and activations", f"{name}-1-1.safetensors", data)
            widths = (16, 8, 4, 2, 1)
            both.run("sweep", *training, "--widths", ",".join(map(str, widths)), "--seeds", 1, "--out", f"{out}-sweep")
            for bits in widths:
                both.compare(f"{name}, {width(bits)} in training", f"{name}-sweep/{bits}bit/*/model_{bits}bit.safetensors", data)
    if both.differ:
        sys.exit(f"{both.differ} rows differ")


# --- speed --------------------------------------------------------------------------------------------------------------


def ask(server, kind, batch, iterations):
    """Seconds for one iteration; `quantized` is what older builds call `int8`."""
    try:
        return float(server.ask(f"{kind} {batch} {iterations}"))
    except EngineError:
        if kind != "quantized":
            raise
        return float(server.ask(f"int8 {batch} {iterations}"))


def cells(args):
    """(kind, bits, batch) of every path."""
    yield from (("fp32", 8, batch) for batch in (1, 64))
    yield from (("quantized", bits, batch) for bits in args.bits for batch in (1, 64))
    yield from ((kind, 8, 64) for kind in args.training)


def command(name, threads, bits):
    """A model of the zoo by its name, at the size of its own data; an ONNX file by its path."""
    model = [name] if Path(name).suffix == ".onnx" else ["--model", name, "--image-size", {"resnet8": "32"}.get(name, "0")]
    return ["bench", "--serve", *model, "--threads", str(threads), "--bits", str(bits)]


def speed(args):
    print("| model | threads | path | batch | old, img/s | new, img/s | new / old, paired median | quartiles | bests |")
    print("|---|--:|---|--:|--:|--:|--:|---|--:|")
    for name, threads in itertools.product(args.models, args.threads):
        for kind, bits, batch in cells(args):
            try:
                samples = pairs(args, command(name, threads, bits), kind, batch)
            except EngineError as error:
                print(f"| {Path(name).stem} | {threads} | {kind} | {batch} | {error} | | | | |", flush=True)
                continue
            ratios = [old / new for old, new in samples]
            low, middle, high = quantiles(ratios, n=4)
            path = {"quantized": width(bits), "fp32": "FP32", "train": "training, FP32", "qat": "training, 8 bits"}[kind]
            old, new = (batch / median(column) for column in zip(*samples))
            bests = min(old for old, _ in samples) / min(new for _, new in samples)
            flag = " **" if max(middle, bests) < args.least else ""
            print(
                f"| {Path(name).stem} | {threads} | {path} | {batch} | {old:,.0f} | {new:,.0f} | {middle:.3f}{flag} | {low:.3f} to {high:.3f} | {bests:.3f} |",
                flush=True,
            )


def pairs(args, words, kind, batch):
    """(old, new) seconds for one iteration, of a process each in every round: where a process's memory lies decides up to a third
    of a small network's time. Of each process the best of three answers counts."""
    count = None
    samples = []
    for number in range(args.rounds):
        times = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            server = Server([(args.old, args.new)[which], *words], sys.stderr)
            try:
                ask(server, kind, batch, 1)
                count = count or max(1, round(args.seconds / ask(server, kind, batch, 2)))
                times[which] = min(ask(server, kind, batch, count) for _ in range(3))
            finally:
                server.close()
        samples.append((times[0], times[1]))
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("build")
    one.add_argument("commit")
    one.add_argument("folder")
    one.set_defaults(run=build)
    for function in (models, speed):
        one = commands.add_parser(function.__name__)
        one.add_argument("old", help="a binary")
        one.add_argument("new", help="a binary")
        one.set_defaults(run=function)
        if function is models:
            one.add_argument("--models", nargs="+", default=["eurosat-cnn", "resnet8", "mlp"])
            one.add_argument("--limit", default=300, help="training images of the synthetic data")
            one.add_argument("--epochs", default=2)
        else:
            one.add_argument("--models", nargs="+", default=["eurosat-cnn", "resnet8"], help="of the zoo, or ONNX files")
            one.add_argument("--threads", nargs="+", type=int, default=[1, 2])
            one.add_argument("--bits", nargs="+", type=int, default=[8, 16, 4, 2, 1])
            one.add_argument("--rounds", type=int, default=12)
            one.add_argument("--training", nargs="*", choices=["train", "qat"], default=["train", "qat"])
            one.add_argument("--seconds", type=float, default=0.1, help="length of one answer")
            one.add_argument("--least", type=float, default=0.98, help="mark where median and bests are below this")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
