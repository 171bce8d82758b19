"""From a cold process to the first answer, and the memory that it took: lowbit, ONNX Runtime and OpenVINO on one ONNX file.

  cargo build --release -p lowbit-onnx --example logits
  python cold.py mobilenet_v2.onnx --side 224 --lowbit ../../target/release/examples/logits

Each engine's process is started anew in every round, in turns. The peers' clock starts when Python and the engine's module have
been imported, lowbit's when its process is started: that is in the peers' favor. Memory is the largest resident set of the whole
process, of all three alike: VmHWM of /proc/PID/status, which begins anew with the program that is executed (ru_maxrss does not: it
counts what the process that started it held). The last column is what the process had before it was told of the model: for the
peers Python, numpy and the engine's libraries. One thread.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import runtimes


def peak(process="self"):
    """The largest resident set of a process since its program was executed, in KiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:"))


def peer(engine, file, side):
    image = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    if engine == "onnxruntime":
        import onnxruntime  # noqa: F401

        load = runtimes.onnx_runtime
    else:
        import openvino

        openvino.Core()
        load = runtimes.open_vino
    before, start = peak(), time.perf_counter()
    load(file, image, 1)
    seconds = time.perf_counter() - start
    print(seconds, peak(), before)


def started(binary):
    return subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "RAYON_NUM_THREADS": "1"})  # fmt: skip


def lowbit(binary, file, side, folder):
    pixels, out = folder / "pixels", folder / "logits"
    np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8).tofile(pixels)
    # What it has before it knows of a model: of another process, since this one's clock must not wait for it.
    with started(binary) as idle:
        time.sleep(0.1)
        before = peak(idle.pid)
    start = time.perf_counter()
    with started(binary) as process:
        process.stdin.write(f"{file}\t{pixels}\t{out}\t{side}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        seconds = time.perf_counter() - start
        # It lives until its input ends.
        memory = peak(process.pid)
    if not answer.startswith("ok"):
        sys.exit(f"lowbit: {answer.strip()}")
    return seconds, memory, before


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
                found.setdefault(engine, []).append((float(line[0]), int(line[1]), int(line[2])))
            found.setdefault("lowbit", []).append(lowbit(args.lowbit, args.file, args.side, Path(folder)))
    own = [run[0] for run in found["lowbit"]]
    print("| engine | first answer, ms, median [quartiles] | over lowbit's, paired | memory of the process, MiB | before the model, MiB |")
    print("|---|--:|--:|--:|--:|")
    for engine, runs in found.items():
        seconds, *memory = zip(*runs)
        low, middle, high = (1e3 * x for x in statistics.quantiles(seconds, n=4))
        ratio = statistics.median(a / b for a, b in zip(seconds, own))
        most, before = (statistics.median(each) / 1024 for each in memory)
        print(f"| {engine} | {middle:.1f} [{low:.1f}, {high:.1f}] | {ratio:.2f} | {most:.1f} | {before:.1f} |")


if __name__ == "__main__":
    main()
