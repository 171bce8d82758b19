"""From a cold process to the first answer, and the memory that it took: lowbit, ONNX Runtime and OpenVINO on one ONNX file.

  cargo build --release -p lowbit-onnx --example logits
  python cold.py mobilenet_v2.onnx --side 224 --lowbit ../../target/release/examples/logits

Each engine's process is started anew in every round, in turns. The peers' clock starts when Python and the engine's module have
been imported, lowbit's when its process is started: that is in the peers' favor. Memory is the largest resident set; the peers'
is counted from after the imports on, lowbit's is all of its process. One thread.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import runtimes


def peer(engine, file, side):
    image = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    if engine == "onnxruntime":
        import onnxruntime  # noqa: F401

        load = runtimes.onnx_runtime
    else:
        import openvino

        openvino.Core()
        load = runtimes.open_vino
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    load(file, image, 1)
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def lowbit(binary, file, side, folder):
    pixels, out = folder / "pixels", folder / "logits"
    np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8).tofile(pixels)
    start = time.perf_counter()
    process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "RAYON_NUM_THREADS": "1"})  # fmt: skip
    process.stdin.write(f"{file}\t{pixels}\t{out}\t{side}\n")
    process.stdin.close()
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if not answer.startswith("ok"):
        sys.exit(f"lowbit: {answer.strip()}")
    return seconds, usage.ru_maxrss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--lowbit", type=Path, required=True, help="the example `logits`, built")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer, args.file, args.side)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for engine in ("onnxruntime", "openvino"):
                command = [sys.executable, __file__, args.file, "--side", str(args.side), "--lowbit", args.lowbit]
                line = subprocess.check_output([*command, "--peer", engine], text=True).split()
                found.setdefault(engine, []).append((float(line[0]), int(line[1])))
            found.setdefault("lowbit", []).append(lowbit(args.lowbit, args.file, args.side, Path(folder)))
    own = [seconds for seconds, _ in found["lowbit"]]
    print("| engine | first answer, ms, median [quartiles] | over lowbit's, paired | memory, MiB |\n|---|--:|--:|--:|")
    for engine, runs in found.items():
        seconds, memory = zip(*runs)
        low, middle, high = (1e3 * x for x in statistics.quantiles(seconds, n=4))
        ratio = statistics.median(a / b for a, b in zip(seconds, own))
        print(f"| {engine} | {middle:.1f} [{low:.1f}, {high:.1f}] | {ratio:.2f} | {statistics.median(memory) / 1024:.1f} |")


if __name__ == "__main__":
    main()
