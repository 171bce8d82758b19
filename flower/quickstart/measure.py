"""Flower's PyTorch quickstart, without lowbit's codec and with it: accuracy and bytes.

    python flower/quickstart/measure.py --data cifar10.zip --bits none 8 4                over loopback
    python flower/quickstart/measure.py --data cifar10.zip --bits none 8 4 --here         in this process

needs torch beside '.[flower]'. Over loopback, a run starts a SuperLink and SuperNodes of its own, and a proxy between them counts
all bytes. In this process both apps are called as they stand, without a network; what is counted are the bytes of the messages'
content as Flower writes it (protobuf).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tomllib
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
    return {**found, "up": counter.up, "down": counter.down}


class Here:
    """A grid whose nodes are called in this process, one after the other."""

    def __init__(self, given: argparse.Namespace, bits: str, out: Path) -> None:
        from flwr.app import Context, RecordDict
        from flwr.supercore.task_identity import TaskIdentity
        from quickstart.client_app import app

        # What a ServerApp's process is told when it starts.
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self.app = app
        self.up = self.down = 0
        with (HERE / "pyproject.toml").open("rb") as file:
            config = tomllib.load(file)["tool"]["flwr"]["app"]["config"]
        config |= {"bits": bits, "data": str(given.data.resolve()), "limit": given.limit, "num-server-rounds": given.rounds}
        config |= {"seed": given.seed, "clients": given.nodes, "out": str(out)}
        self.server = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
        self.nodes = {
            2 + node: Context(run_id=1, node_id=2 + node, node_config={"partition-id": node}, state=RecordDict(), run_config=config)
            for node in range(given.nodes)
        }

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Any]:
        from flwr.common.serde import recorddict_to_proto

        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_src_node_id"] = 1
            self.down += recorddict_to_proto(message.content).ByteSize()
            reply = self.app(message, self.nodes[node])
            reply.metadata.__dict__["_src_node_id"] = node
            self.up += recorddict_to_proto(reply.content).ByteSize()
            replies.append(reply)
        return replies


def here(bits: str, given: argparse.Namespace) -> dict[str, Any]:
    """One federation in this process."""
    sys.path.insert(0, str(HERE))
    from quickstart.server_app import app

    with tempfile.TemporaryDirectory(prefix="lowbit-quickstart-") as folder:
        grid = Here(given, bits, Path(folder))
        app(grid, grid.server)  # type: ignore[arg-type]
        found: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text())
    return {**found, "up": grid.up, "down": grid.down}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10, as `lowbit --data` takes it")
    parser.add_argument("--bits", nargs="+", default=["none", "8", "4"], help="bits of the messages; none for Flower's own")
    parser.add_argument("--here", action="store_true", help="call both apps in this process, without a network")
    parser.add_argument("--nodes", type=int, default=4, help="SuperNodes")
    parser.add_argument("--rounds", type=int, default=10, help="rounds")
    parser.add_argument("--limit", type=int, default=10_000, help="most images of each part")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights, order and split")
    parser.add_argument("--seconds", type=float, default=3600, help="how long to wait for a run")
    given = parser.parse_args()
    what = "bytes of Flower's messages" if given.here else "bytes at the socket"
    print(f"| bits, both ways | test accuracy | {what} | up | down | of these, lowbit's messages |")
    print("|--:|--:|--:|--:|--:|--:|")
    for bits in given.bits:
        found = (here if given.here else measure)(bits, given)
        up, down = found["up"], found["down"]
        messages = "" if found["bytes_up"] is None else f"{sum(found['bytes_up']) + sum(found['bytes_down']):,}"
        name = "Flower's own" if bits == "none" else bits
        print(f"| {name} | {100 * found['accuracy'][-1]:.2f} % | {up + down:,} | {up:,} | {down:,} | {messages} |", flush=True)
        print(json.dumps(found), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
