"""Flower's PyTorch quickstart over loopback, without lowbit's codec and with it: accuracy, and bytes at the socket.

    python flower/quickstart/measure.py --data cifar10.zip --bits none 8 4

needs torch beside '.[flower]'. A run starts a SuperLink and SuperNodes of its own. Bytes are counted by a proxy between them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from loopback import Counter, Loopback  # noqa: E402


def measure(bits: str, given: argparse.Namespace) -> dict[str, Any]:
    """One federation."""
    with tempfile.TemporaryDirectory(prefix="lowbit-quickstart-") as folder, Loopback(Path(folder), 0, app=HERE) as here:
        counter = Counter(here.port)
        here.nodes = given.nodes
        for node in range(given.nodes):
            here.start_node(node, through=counter.port)
        here.submit(
            f'bits="{bits}"', f'data="{given.data.resolve()}"', f"limit={given.limit}", f"num-server-rounds={given.rounds}",
            f"seed={given.seed}",
        )  # fmt: skip
        over = time.monotonic() + given.seconds
        file = here.out / "results.json"
        while not file.exists():
            if time.monotonic() > over:
                raise TimeoutError(f"no results after {given.seconds:.0f} s:\n{here.tails()}")
            time.sleep(0.5)
        found: dict[str, Any] = json.loads(file.read_text())
    return {**found, "socket_up": counter.up, "socket_down": counter.down}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10, as `lowbit --data` takes it")
    parser.add_argument("--bits", nargs="+", default=["none", "8", "4"], help="bits of the messages; none for Flower's own")
    parser.add_argument("--nodes", type=int, default=4, help="SuperNodes")
    parser.add_argument("--rounds", type=int, default=10, help="rounds")
    parser.add_argument("--limit", type=int, default=10_000, help="most images of each part")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights, order and split")
    parser.add_argument("--seconds", type=float, default=3600, help="how long to wait for a run")
    given = parser.parse_args()
    print("| bits, both ways | test accuracy | bytes at the socket | up | down | of these, lowbit's messages |")
    print("|--:|--:|--:|--:|--:|--:|")
    for bits in given.bits:
        found = measure(bits, given)
        up, down = found["socket_up"], found["socket_down"]
        messages = "" if found["bytes_up"] is None else f"{sum(found['bytes_up']) + sum(found['bytes_down']):,}"
        name = "Flower's own" if bits == "none" else bits
        print(f"| {name} | {100 * found['accuracy'][-1]:.2f} % | {up + down:,} | {up:,} | {down:,} | {messages} |", flush=True)
        print(json.dumps(found), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
