"""How much faster lowbit is on all threads than on one, at batch 64: inference, training and quantization-aware training.

Both thread counts are alive at once and take turns, so that a neighbor slows both. Prints the median of the paired ratios
and the ratio of the bests. Needs no package but Python's own."""

import argparse
import os
import sys
from pathlib import Path
from statistics import median

from protocol import Server

KINDS = ["fp32", "int8", "train", "qat"]
BATCH = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lowbit", type=Path, help="the built binary")
    parser.add_argument("--model", default="eurosat-cnn")
    parser.add_argument("--image-size", default="0", help="0 for the model's own")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one sample")
    args = parser.parse_args()
    command = [str(args.lowbit), "bench", "--serve", "--model", args.model, "--image-size", args.image_size, "--threads"]
    servers = [Server([*command, str(count)], sys.stderr) for count in (1, args.threads)]
    print(f"| batch {BATCH} | 1 thread, img/s | {args.threads} threads, img/s | ratio, paired | of the bests |")
    print("|---|--:|--:|--:|--:|")
    for kind in KINDS:
        iterations = {}
        for server in servers:
            server.ask(f"{kind} {BATCH} 1")
            each = float(server.ask(f"{kind} {BATCH} 2"))
            iterations[server] = max(1, round(args.seconds / each))
        rounds = [
            [float(server.ask(f"{kind} {BATCH} {iterations[server]}")) for server in servers] for _ in range(args.rounds)
        ]
        slow, fast = zip(*rounds)
        paired = median(a / b for a, b in rounds)
        print(f"| {kind} | {BATCH / median(slow):,.0f} | {BATCH / median(fast):,.0f} | {paired:.2f} | {min(slow) / min(fast):.2f} |")
    for server in servers:
        server.close()


if __name__ == "__main__":
    main()
