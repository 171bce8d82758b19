"""Times lowbit and its peers in one run, in turn, and prints how they compare (README.md).

  python run.py infer --lowbit ../../target/release/lowbit
  python run.py infer --lowbit ../../target/release/lowbit --onnx mobilenet_v2.onnx --side 64
  python run.py train --lowbit ../../target/release/lowbit --threads 2
  python run.py train --lowbit ../../target/release/lowbit --onnx mobilenet_v2.onnx --torchvision mobilenet_v2
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from protocol import EngineError, Server

HERE = Path(__file__).resolve().parent
OURS = {"infer": ["fp32", "int8"], "train": ["train", "qat"]}
BATCHES = {"infer": [1, 64], "train": [64]}
# Of the images; models.py has the same, but needs PyTorch.
SIDES = {"eurosat-cnn": 64, "resnet8": 32}
PACKAGES = ["torch", "onnxruntime", "openvino", "nncf", "onnx", "numpy"]


def note(text):
    print(text, file=sys.stderr, flush=True)


def start(args, threads, folder, log):
    """The servers that start, and `(name, server, its word for it)` of every engine."""
    if args.onnx:
        script = "onnx_file.py" if args.what == "infer" else "train_onnx.py"
        peers = [sys.executable, HERE / script, args.onnx, "--side", str(args.side)]
        peers += ["--exported", args.exported] if args.exported else []
        peers += ["--torchvision", args.torchvision] if args.torchvision else []
    else:
        peers = [sys.executable, HERE / f"{args.what}.py", "--model", args.model]
        peers += ["--files", folder] if args.what == "infer" else []
    commands = {"peers": [*peers, "--threads", str(threads)]}
    if args.lowbit:
        commands["lowbit"] = [args.lowbit, *"bench --serve --model".split(), args.onnx or args.model]
        commands["lowbit"] += ["--image-size", str(args.side or SIDES[args.model]), "--threads", str(threads)]
        commands["lowbit"] += ["--preprocess", "half"] if args.onnx else []
    servers, engines = [], []
    for who, command in commands.items():
        try:
            server = Server([str(word) for word in command], log)
            servers.append(server)
            names = OURS[args.what] if who == "lowbit" else server.ask("list").split()
            engines += [(f"{word}:lowbit" if who == "lowbit" else word, server, word) for word in names]
        except (EngineError, OSError) as error:
            note(f"skipped {who}: {error}")
    return servers, engines


def iterations_for(server, word, batch, seconds):
    """Builds and warms an engine up; how many iterations fill a sample."""
    server.ask(f"{word} {batch} 1")
    each = float(server.ask(f"{word} {batch} 2"))
    return max(1, round(seconds / each))


def measure(args, threads, batch, engines):
    """Seconds an iteration of every engine that works, one sample a round."""
    working = []
    for name, server, word in engines:
        if args.only and args.only not in name:
            continue
        try:
            working.append((name, server, word, iterations_for(server, word, batch, args.seconds)))
        except EngineError as error:
            note(f"skipped {name}, batch {batch}, {threads} threads: {error}")
    samples = {name: [] for name, *_ in working}
    for turn in range(args.rounds):
        first = turn % max(1, len(working))
        for name, server, word, iterations in working[first:] + working[:first]:
            time.sleep(0.02)  # lets the last engine's threads stop spinning
            try:
                samples[name].append(float(server.ask(f"{word} {batch} {iterations}")))
            except EngineError as error:
                note(f"dropped {name}, batch {batch}, {threads} threads: {error}")
                del samples[name]
                working = [engine for engine in working if engine[0] != name]
    return samples


def summarize(samples, threads, batch):
    rows = []
    for name, seconds in samples.items():
        kind, _, engine = name.partition(":")
        ours = samples.get(f"{kind}:lowbit")
        rows.append(
            {
                "kind": kind,
                "engine": engine,
                "threads": threads,
                "batch": batch,
                "median_img_per_s": batch / statistics.median(seconds),
                "best_img_per_s": batch / min(seconds),
                "lowbit_ratio_paired_median": ours and statistics.median(t / o for t, o in zip(seconds, ours)),
                "lowbit_ratio_of_best": ours and min(seconds) / min(ours),
                "seconds_per_iteration": seconds,
            }
        )
    return rows


def table(rows, kind):
    """Markdown: one line per engine, one column per cell: median / best img/s, then lowbit's ratio to the engine."""
    cells = sorted({(r["threads"], r["batch"]) for r in rows})
    found = {(r["engine"], r["threads"], r["batch"]): r for r in rows if r["kind"] == kind}
    names = list(dict.fromkeys(engine for engine, *_ in found))
    lines = [f"| {kind} | " + " | ".join(f"{t} thread{'s' * (t > 1)}, batch {b}" for t, b in cells) + " |"]
    lines.append("|---|" + "--:|" * len(cells))
    for name in names:
        texts = []
        for cell in cells:
            row = found.get((name, *cell))
            if row is None:
                texts.append("-")
                continue
            text = f"{row['median_img_per_s']:,.0f} / {row['best_img_per_s']:,.0f}"
            if row["lowbit_ratio_paired_median"] and name != "lowbit":
                text += f", {row['lowbit_ratio_paired_median']:.2f}x / {row['lowbit_ratio_of_best']:.2f}x"
            texts.append(text)
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def versions():
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def cpu():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["infer", "train"])
    parser.add_argument("--lowbit", type=Path, help="the built binary [default: peers alone]")
    parser.add_argument("--model", choices=SIDES, default="eurosat-cnn")
    parser.add_argument("--onnx", type=Path, help="an image classifier in a file, in place of --model")
    parser.add_argument("--exported", type=Path, help="the same in INT8 from `lowbit export`, for the peers to run too")
    parser.add_argument("--torchvision", help="torchvision's name of the architecture of --onnx, for quantization-aware training")
    parser.add_argument("--side", type=int, help="of the images of --onnx [default: 64]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", type=int, default=1, help="how often every engine is started anew, for all rounds each time")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one sample")
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--batches", help="comma-separated [default: 1,64 for infer, 64 for train]")
    parser.add_argument("--only", help="engines whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("outputs/peers"), help="folder for results and the log")
    args = parser.parse_args()
    if args.onnx:
        args.side = args.side or 64
    if args.exported and args.what != "infer":
        parser.error("--exported goes with infer")
    if args.torchvision and args.what != "train":
        parser.error("--torchvision goes with train")
    return args


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    batches = [int(b) for b in args.batches.split(",")] if args.batches else BATCHES[args.what]
    rows = []
    with tempfile.TemporaryDirectory() as folder, open(args.out / f"{args.what}.log", "w") as log:
        for threads in map(int, args.threads.split(",")):
            samples = {batch: {} for batch in batches}
            for number in range(args.processes):
                servers, engines = start(args, threads, folder, log)
                for batch in batches:
                    note(f"{threads} threads, batch {batch}, processes {number + 1} of {args.processes} ...")
                    found = measure(args, threads, batch, engines)
                    # An engine that fails once is left out, so that paired samples are of the same rounds.
                    names = found if number == 0 else samples[batch].keys() & found
                    samples[batch] = {name: samples[batch].get(name, []) + found[name] for name in found if name in names}
                for server in servers:
                    server.close()
            for batch in batches:
                rows += summarize(samples[batch], threads, batch)
    machine = {"cpu": cpu(), "cores": os.cpu_count(), "system": platform.platform()}
    result = {"model": args.onnx.name if args.onnx else args.model, "side": args.side, "rounds": args.rounds, "processes": args.processes, "machine": machine, "versions": versions(), "rows": rows}
    path = args.out / f"{args.what}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{cpu()}, {args.processes} x {args.rounds} rounds; median / best img/s, and lowbit's speed over the engine's: median of the")
    print("paired ratios / ratio of the bests.\n")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        print(table(rows, kind), end="\n\n")
    note(f"wrote {path}")


if __name__ == "__main__":
    main()
