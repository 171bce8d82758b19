"""Whether `lowbit recommend` ships what trying everything would: all that it lists, made, measured and timed without it.

    python bench/recommend/brute_force.py MODEL --data DATA [--lowbit target/release/lowbit] [--max-drop 1] [--rounds 3]

Every candidate of `recommend --dry-run` (but for mixed widths, which are made from what the others come to) is quantized by its own
command, evaluated on all test images, and timed by `lowbit bench` against FP32, one image a call; rounds take turns over
the candidates. The best is the fastest that loses no more than --max-drop. Then `recommend` decides: of models within 3 % of the fastest it
ships the smallest, which may be one of mixed widths.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def lowbit(program, *words, ok=(0,)):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode not in ok:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def candidates(program, model, data):
    """Names and flags, in the order in which they are tried."""
    found = {}
    for line in lowbit(program, "recommend", model, *data, "--dry-run").splitlines():
        name, _, command = line.partition(": lowbit quantize ")
        if command:
            found[name] = command.split()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--lowbit", default="target/release/lowbit")
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    program, data = given.lowbit, ["--data", given.data, "--threads", given.threads]
    with tempfile.TemporaryDirectory() as folder:
        files, accuracy, speed = {}, {}, {}
        fp32 = json.loads(lowbit(program, "eval", given.model, *data, "--json"))["accuracy_percent"]
        for number, (name, flags) in enumerate(candidates(program, given.model, data).items()):
            files[name] = Path(folder) / f"{number}.safetensors"
            lowbit(program, "quantize", given.model, *data, *flags, "--output", files[name])
            accuracy[name] = json.loads(lowbit(program, "eval", files[name], *data, "--json"))["accuracy_percent"]
            print(f"{name}: {accuracy[name]:.2f} %", file=sys.stderr)
        for _ in range(given.rounds):
            for name, file in files.items():
                cells = json.loads(lowbit(program, "bench", file, "--threads", given.threads, "--json"))["speed"]
                times = next(cell["speedup"] for cell in cells if cell["batch"] == 1)
                speed.setdefault(name, []).append(times["median"])
        bytes_of = {name: file.stat().st_size for name, file in files.items()}
        # 3: nothing fits, which is an answer.
        lowbit(program, "recommend", given.model, *data, "--max-drop", given.max_drop, "--time", "30m", "--out", folder, ok=(0, 3))
        verdict = json.loads((Path(folder) / "recommend/recommendation.json").read_text())
    allowed = [name for name in files if fp32 - accuracy[name] <= given.max_drop]
    best = max(allowed, key=lambda name: statistics.median(speed[name]), default="FP32")
    print(f"FP32 {fp32:.2f} %; {given.max_drop:g} points may be lost; one image a call, {given.threads} thread(s)\n")
    print("| model | test % | bytes | × FP32's speed, median of rounds (each round) |\n|---|--:|--:|---|")
    for name in files:
        rounds = ", ".join(f"{times:.2f}" for times in speed[name])
        mark = "**" if name == best else ""
        print(f"| {mark}{name}{mark} | {accuracy[name]:.2f} | {bytes_of[name]:,} | {statistics.median(speed[name]):.2f} ({rounds}) |")
    shipped = verdict["verdict"]["ship"] or "FP32"
    print(f"\nTrying everything: {best}. `recommend`: {shipped}. {verdict['verdict']['sentence']}")


if __name__ == "__main__":
    main()
